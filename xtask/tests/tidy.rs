//! The repository keeps its own rules.

#[test]
fn the_repository_keeps_its_rules() {
    let broken = xtask::tidy::broken(xtask::root()).expect("the repository can be read");
    assert!(broken.is_empty(), "broken rules:\n{}", broken.join("\n"));
}
