//! VolumeBinding: a pod runs where its bound volumes can be reached, and where there is room for those that are yet to be made.
use super::Filter;
use crate::fit_error::Rejection;
use crate::{NodeInfo, Plugin, Volumes};

pub struct VolumeBinding<'a>(&'a Volumes);

pub fn prepare(volumes: &Volumes) -> Option<VolumeBinding<'_>> {
    (!volumes.affinities.is_empty() || !volumes.room.is_empty()).then_some(VolumeBinding(volumes))
}

impl Filter for VolumeBinding<'_> {
    fn plugin(&self) -> Plugin {
        Plugin::VolumeBinding
    }
    fn check(&self, node: &NodeInfo) -> Result<(), Rejection> {
        let reachable = self.0.affinities.iter().all(|terms| terms.iter().any(|term| term.matches(node.own_name(), node.labels())));
        if !reachable {
            return Err(Rejection::unresolvable("node(s) didn't match PersistentVolume's node affinity"));
        }
        let has_room = self.0.room.iter().all(|nodes| nodes.iter().any(|selector| selector.matches(node.labels())));
        if has_room { Ok(()) } else { Err(Rejection::unresolvable("node(s) did not have enough free storage")) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{node, snapshot};
    use api_meta::LabelSelector;
    use serde_json::json;

    #[test]
    fn a_volume_is_made_where_there_is_room() {
        let nodes = ["n1", "n2"].map(|name| node(name, json!({}))).into();
        let snapshot = snapshot(nodes, &[]);
        let here = LabelSelector::from_parts([(&"kubernetes.io/hostname".to_owned(), &"n1".to_owned())], std::iter::empty()).unwrap();
        let volumes = Volumes { room: vec![vec![here]], ..Default::default() };
        let filter = prepare(&volumes).unwrap();
        assert!(filter.check(&snapshot.nodes()[0]).is_ok());
        assert!(filter.check(&snapshot.nodes()[1]).is_err());
        let nowhere = Volumes { room: vec![vec![]], ..Default::default() };
        assert!(prepare(&nowhere).unwrap().check(&snapshot.nodes()[0]).is_err());
        assert!(prepare(&Volumes::default()).is_none());
    }
}
