//! ComponentClients: the in-process write path of one component, for every cluster.
use api_auth::User;
use api_client::{Clients, kube};
use api_meta::ClusterName;
use api_server::{ApiServer, InProcess};
use std::collections::HashMap;
use std::sync::{Arc, Mutex};

/// Clients of so many clusters are kept.
const KEPT: usize = 64;

/// Clients that act as one user. A client is made at a cluster's first use and shared from then on.
pub struct ComponentClients {
    server: Arc<ApiServer>,
    user: Arc<User>,
    clients: Mutex<HashMap<ClusterName, kube::Client>>,
}

impl ComponentClients {
    pub fn new(server: Arc<ApiServer>, username: &str, groups: &[&str]) -> Arc<Self> {
        let user = User::authenticated(username, groups.iter().map(|g| (*g).to_owned()));
        Arc::new(Self { server, user: Arc::new(user), clients: Mutex::default() })
    }
}

impl Clients for ComponentClients {
    fn cluster(&self, cluster: &ClusterName) -> kube::Client {
        let mut clients = self.clients.lock().expect("no holder of this lock panics");
        // Each has a task and a queue: clusters that nothing happens in shall not keep one.
        if clients.len() >= KEPT && !clients.contains_key(cluster) {
            clients.clear();
        }
        let make = || kube::Client::new(InProcess::new(self.server.clone(), cluster.clone(), self.user.clone()), "default");
        clients.entry(cluster.clone()).or_insert_with(make).clone()
    }
}
