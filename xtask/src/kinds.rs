//! The page of the API: every kind that is served, made from the registry.
use api_resource::AnyResource;
use std::fmt::Write;

pub const PAGE: &str = "docs/guide/api.md";

const HEAD: &str = "# The API\n\n\
    Every kind that is built in, made from the registry by `cargo xtask gen`. The kinds of \
    CustomResourceDefinitions come beside them, and what APIServices lead to.\n\n\
    Verbs are those of the kind itself; a subresource's stand behind it where they are not `get patch update`. \
    Columns are what `kubectl get` shows, those after the bar with `-o wide`.\n";

const ALL_VERBS: &str = "create delete deletecollection get list patch update watch";

pub fn page() -> String {
    let mut page = HEAD.to_owned();
    let mut before = None;
    for kind in api_builtins::BUILTINS {
        let names = kind.names();
        let version = names.api_version();
        if before.as_ref() != Some(&version) {
            write!(page, "\n## {version}\n\n| kind | resource | names | scope | verbs | subresources | selectable fields | columns |\n|---|---|---|---|---|---|---|---|\n")
                .expect("a string takes everything");
        }
        row(&mut page, *kind);
        before = Some(version);
    }
    page
}

fn row(page: &mut String, kind: &dyn AnyResource) {
    let names = kind.names();
    let mut verbs = kind.verbs().to_vec();
    verbs.sort_unstable();
    let verbs = verbs.join(" ");
    let verbs = if verbs == ALL_VERBS { "all" } else { &verbs };
    let subresources: Vec<String> = kind
        .subresources()
        .iter()
        .map(|part| match part.verbs.join(" ") {
            verbs if verbs == "get patch update" => part.name.to_owned(),
            verbs => format!("{} ({verbs})", part.name),
        })
        .collect();
    let (wide, narrow): (Vec<_>, Vec<_>) = kind.columns().into_iter().partition(|column| column.priority > 0);
    let joined = |columns: Vec<api_resource::TableColumn>| columns.iter().map(|column| column.name.to_string()).collect::<Vec<_>>().join(", ");
    let columns = if wide.is_empty() { joined(narrow) } else { format!("{} \\| {}", joined(narrow), joined(wide)) };
    let short: Vec<&str> = names.short.iter().map(|name| &**name).collect();
    let fields: Vec<&str> = kind.fields().iter().map(|field| &*field.path).collect();
    writeln!(
        page,
        "| {} | {} | {} | {} | {verbs} | {} | {} | {columns} |",
        names.kind,
        names.plural,
        short.join(", "),
        if kind.namespaced() { "namespace" } else { "cluster" },
        subresources.join(", "),
        fields.join(", "),
    )
    .expect("a string takes everything");
}
