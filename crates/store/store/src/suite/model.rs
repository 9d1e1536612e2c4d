//! Model: a store of random changes beside a naive account of what each revision held.
use super::{Dice, all_pods, delete, pod, put, txn, unstamped};
use crate::{Op, RangeRequest, Record, Revision, Scope, Store};
use std::collections::BTreeMap;
use std::sync::Arc;

/// What a key holds: revision of creation, of the last change, value.
type State = BTreeMap<String, (Revision, Revision, String)>;

/// Every revision from the first to the newest, each with all it held.
#[derive(Default)]
pub struct Model {
    pub revisions: BTreeMap<Revision, State>,
}

impl Model {
    /// Makes some random transactions in the store and in the model.
    pub async fn change(&mut self, store: &dyn Store, dice: &mut Dice, transactions: usize) {
        let mut state = self.revisions.last_key_value().map(|(_, state)| state.clone()).unwrap_or_default();
        for _ in 0..transactions {
            let mut ops: Vec<Op> = Vec::new();
            for name in 0..12 {
                match dice.below(24) {
                    0 => ops.push(delete(&pod(&format!("n{name:02}")))),
                    1 | 2 => ops.push(put(&pod(&format!("n{name:02}")), dice.below(1000).to_string())),
                    _ => {}
                }
            }
            let committed = store.txn(txn([], ops.clone())).await.unwrap();
            for op in ops {
                match op {
                    Op::Put { key, value } => {
                        let created = state.get(key.as_str()).map_or(committed.revision, |(created, ..)| *created);
                        state.insert(key.as_str().to_owned(), (created, committed.revision, String::from_utf8(value.into()).unwrap()));
                    }
                    Op::Delete { key } => {
                        state.remove(key.as_str());
                    }
                }
            }
            self.revisions.insert(committed.revision, state.clone());
        }
    }

    /// Reads every revision from `oldest` on in whole and in pages.
    pub async fn check(&self, store: &dyn Store, oldest: Revision) {
        for (revision, state) in self.revisions.range(oldest..) {
            for limit in [0, 1, 5] {
                let (mut seen, mut after) = (State::new(), None);
                loop {
                    let request = RangeRequest { scope: all_pods(), after: after.clone(), limit, revision: Some(*revision) };
                    let page = store.range(request).await.unwrap();
                    assert_eq!(page.revision, *revision);
                    assert!(limit == 0 || page.records.len() <= limit);
                    seen.extend(page.records.iter().map(show));
                    assert_eq!(page.remaining, state.len() - seen.len(), "remaining at revision {revision} after {after:?} with limit {limit}");
                    if page.remaining == 0 {
                        break;
                    }
                    after = page.records.last().map(|record| record.key.as_str().to_owned());
                }
                assert_eq!(&seen, state, "revision {revision} with limit {limit}");
            }
            if let Some((key, expected)) = state.first_key_value() {
                let scope = Scope::Key(crate::Key::parse(key).unwrap());
                let range = store.range(RangeRequest { scope, after: None, limit: 0, revision: Some(*revision) }).await.unwrap();
                assert_eq!(range.records.iter().map(show).collect::<Vec<_>>(), [(key.clone(), expected.clone())]);
            }
        }
    }
}

fn show(record: &Arc<Record>) -> (String, (Revision, Revision, String)) {
    (record.key.as_str().to_owned(), (record.create_revision, record.mod_revision, unstamped(record)))
}
