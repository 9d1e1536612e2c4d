//! NetworkPolicies as ACLs of the pod network: what they say, whom they concern, and the rules that hold them.
//!
//! ```text
//! network_policy.rs  what one policy says (pure)
//! pods.rs            pods and namespaces, as far as policies look at them
//! members.rs         address sets: which pods a peer or a named port means (pure)
//! acls.rs            one policy's ACLs, as nft writes them (pure)
//! policies.rs        all policies, pods and namespaces, and what a change of one changes (pure)
//! tables.rs          what is in the kernel, and the script that leads from there to what shall be (pure)
//! follow.rs          the runner: caches in, transactions out
//! ```

mod acls;
mod follow;
mod members;
mod network_policy;
mod pods;
mod policies;
mod tables;

pub(crate) use acls::named_peers;
pub use follow::{PolicySettings, PolicyView, run, teardown};
pub(crate) use members::{Element, Members, Scope, What};
pub use network_policy::{Direction, Isolation, Policy};
pub(crate) use network_policy::{Peers, PodPeer, Ports, Rule};
pub use pods::{PodFacts, PolicyNamespace, PolicyPod, Protocol};
pub use policies::Policies;
pub use tables::{TABLE, Update};
pub(crate) use tables::{hold, let_go};
