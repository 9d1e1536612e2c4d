//! k8shost: Kubernetes hosting in one binary.
fn main() {}
