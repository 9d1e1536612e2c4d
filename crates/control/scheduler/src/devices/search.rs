//! The search for devices on one node that meet all requests of a pod's claims: in order, with a way back.
//!
//! What is found first is taken: pools by name, devices as they are published, alternatives as they are preferred.
use super::asked::{Alternative, Amount, Asked};
use super::counters::{self, Counter};
use super::pools::{Device, Pool};
use super::taken::InUse;
use super::{DeviceId, DeviceSelectors, capacity};
use crate::NodeInfo;
use api_meta::Quantity;
use controller_kit::device_taints;
use std::collections::{BTreeMap, HashMap, HashSet};

/// Devices that may be tried for one node before the search is given up.
const MOST_TRIES: usize = 200_000;
/// Those that may be tried for one pod on all nodes.
pub const MOST_TRIES_OF_ALL: usize = 2_000_000;
/// Devices a claim may have.
const MOST_RESULTS: usize = 32;

/// A device for a request.
#[derive(Clone)]
pub struct Pick<'a> {
    pub claim: usize,
    pub alternative: &'a Alternative,
    pub device: &'a Device,
    /// What it takes of a shared device.
    pub part: Option<BTreeMap<String, Quantity>>,
}

struct Search<'a> {
    asked: &'a [Asked],
    selectors: &'a dyn DeviceSelectors,
    used: &'a InUse,
    /// All devices of the node, each with its pool.
    devices: Vec<(usize, &'a Device)>,
    /// Pools that keep a request for all devices from being answered now, and why.
    unsettled: Vec<(&'a Pool, &'static str)>,
    left: Vec<BTreeMap<Counter, Quantity>>,
    whole: HashSet<&'a DeviceId>,
    parts: HashMap<&'a DeviceId, BTreeMap<String, Quantity>>,
    picks: Vec<Pick<'a>>,
    /// Answers of selectors, by request and device.
    answers: HashMap<(*const Alternative, usize), bool>,
    /// Devices that may still be tried.
    left_to_try: usize,
}

/// `tries`: how many devices may still be tried for the pod.
///
/// # Errors
/// What keeps the search from an answer, in upstream's words.
pub fn search<'a>(
    asked: &'a [Asked],
    pools: &[&'a Pool],
    used: &'a InUse,
    node: &NodeInfo,
    selectors: &'a dyn DeviceSelectors,
    tries: &mut usize,
) -> Result<Option<Vec<Pick<'a>>>, String> {
    let settled = pools.iter().enumerate().filter(|(_, pool)| pool.is_complete && !pool.is_invalid);
    let here = settled.flat_map(|(at, pool)| pool.devices.iter().filter(|device| device.place.takes(node)).map(move |device| (at, device)));
    let has_some = |pool: &&&Pool| pool.devices.iter().any(|device| device.place.takes(node));
    let unsettled = pools.iter().filter(has_some).filter_map(|pool| match (pool.is_complete, pool.is_invalid) {
        (false, _) => Some((*pool, "being updated")),
        (true, true) => Some((*pool, "invalid")),
        _ => None,
    });
    let mut search = Search {
        asked,
        selectors,
        used,
        devices: here.collect(),
        unsettled: unsettled.collect(),
        left: pools.iter().map(|pool| counters::left(pool, used)).collect(),
        whole: HashSet::new(),
        parts: HashMap::new(),
        picks: Vec::new(),
        answers: HashMap::new(),
        left_to_try: MOST_TRIES.min(*tries),
    };
    let met = search.request(0, 0);
    *tries -= MOST_TRIES.min(*tries) - search.left_to_try;
    Ok(met?.then_some(search.picks))
}

impl<'a> Search<'a> {
    /// Meets this request of this claim and all that follow.
    fn request(&mut self, claim: usize, at: usize) -> Result<bool, String> {
        let asked = self.asked;
        let Some(of) = asked.get(claim) else { return Ok(true) };
        let Some(request) = of.requests.get(at) else { return self.request(claim + 1, 0) };
        for alternative in &request.alternatives {
            let met = match alternative.amount {
                Amount::Count(count) => self.some(claim, at, alternative, count, 0)?,
                Amount::All => self.all(claim, at, alternative)?,
            };
            if met {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// `count` more devices for a request, from this place on.
    fn some(&mut self, claim: usize, at: usize, alternative: &'a Alternative, count: usize, from: usize) -> Result<bool, String> {
        if count == 0 {
            return self.request(claim, at + 1);
        }
        for place in from..self.devices.len() {
            if !self.take(claim, alternative, place)? {
                continue;
            }
            // A request has a device once, shared or not.
            if self.some(claim, at, alternative, count - 1, place + 1)? {
                return Ok(true);
            }
            self.put_back();
        }
        Ok(false)
    }

    /// All devices that the request's selectors take, and none of them anybody else's.
    fn all(&mut self, claim: usize, at: usize, alternative: &'a Alternative) -> Result<bool, String> {
        if let Some((pool, why)) = self.unsettled.first() {
            let key = &self.asked[claim].key;
            let (claim, request, pool) = (format!("{}/{}", key.namespace, key.name), &alternative.name, format!("{}/{}", pool.driver, pool.name));
            return Err(format!("claim {claim}, request {request}: asks for all devices, but resource pool {pool} is currently {why}"));
        }
        let before = self.picks.len();
        let mut met = true;
        for place in 0..self.devices.len() {
            if self.is_selected(claim, alternative, place)? && !self.take(claim, alternative, place)? {
                met = false;
                break;
            }
        }
        if met && self.picks.len() > before && self.request(claim, at + 1)? {
            return Ok(true);
        }
        while self.picks.len() > before {
            self.put_back();
        }
        Ok(false)
    }

    fn is_selected(&mut self, claim: usize, alternative: &'a Alternative, place: usize) -> Result<bool, String> {
        let key = (std::ptr::from_ref(alternative), place);
        if let Some(answer) = self.answers.get(&key) {
            return Ok(*answer);
        }
        let device = self.devices[place].1;
        let mut answer = true;
        for (number, expression) in alternative.selectors.iter().enumerate() {
            let asked = &self.asked[claim].key;
            let found = self.selectors.matches(expression, &device.id.driver, &device.published);
            if !found.map_err(|error| format!("claim {}/{}: selector #{number}: CEL runtime error: {error}", asked.namespace, asked.name))? {
                answer = false;
                break;
            }
        }
        self.answers.insert(key, answer);
        Ok(answer)
    }

    fn take(&mut self, claim: usize, alternative: &'a Alternative, place: usize) -> Result<bool, String> {
        if self.left_to_try == 0 {
            return Err("timed out trying to allocate devices".into());
        }
        self.left_to_try -= 1;
        let (pool, device) = self.devices[place];
        if self.picks.iter().filter(|pick| pick.claim == claim).count() >= MOST_RESULTS {
            return Ok(false);
        }
        let Some(part) = self.free_part(alternative, pool, device) else { return Ok(false) };
        // A device that is ready only later needs a binding that waits for it.
        if device.is_bound_later || !device_taints::are_tolerated(&device.taints, &alternative.tolerations) || !self.is_selected(claim, alternative, place)? {
            return Ok(false);
        }
        let constraints = self.asked[claim].constraints.iter().filter(|constraint| constraint.concerns(&alternative.name));
        let holds = constraints.into_iter().all(|constraint| {
            let chosen = self.picks.iter().filter(|pick| pick.claim == claim && constraint.concerns(&pick.alternative.name));
            constraint.holds(chosen.map(|pick| pick.device), device)
        });
        if !holds {
            return Ok(false);
        }
        let is_first = !self.used.has(&device.id) && !self.parts.contains_key(&device.id);
        if !alternative.is_admin {
            match &part {
                Some(part) => capacity::add(self.parts.entry(&device.id).or_default(), part),
                None => drop(self.whole.insert(&device.id)),
            }
            if is_first {
                counters::take(&mut self.left[pool], &device.takes);
            }
        }
        self.picks.push(Pick { claim, alternative, device, part });
        Ok(true)
    }

    /// What the request would take of a device, if that is free: `Some(None)` is all of it.
    fn free_part(&self, alternative: &Alternative, pool: usize, device: &Device) -> Option<Option<BTreeMap<String, Quantity>>> {
        let wanted = capacity::wanted(&device.capacity, &device.id.driver, &alternative.capacity)?;
        if alternative.is_admin {
            return Some(None);
        }
        let is_taken = self.used.has(&device.id) || self.parts.contains_key(&device.id) || self.whole.contains(&device.id);
        if !is_taken && !counters::suffices(&self.left[pool], &device.takes) {
            return None;
        }
        if !device.is_shared {
            return (!is_taken).then_some(None);
        }
        let mut parts = self.used.parts(&device.id);
        if let Some(more) = self.parts.get(&device.id) {
            capacity::add(&mut parts, more);
        }
        let is_free = !self.used.is_whole(&device.id) && capacity::suffices(&device.capacity, &parts, &wanted);
        is_free.then_some(Some(wanted))
    }

    /// Takes the last choice back.
    fn put_back(&mut self) {
        let Some(Pick { alternative, device, .. }) = self.picks.pop() else { return };
        if alternative.is_admin {
            return;
        }
        self.whole.remove(&device.id);
        // Anew from what is still chosen, so that a device nobody has a part of any more is free again.
        let parts = self.picks.iter().filter(|pick| pick.device.id == device.id).filter_map(|pick| pick.part.as_ref());
        let left = parts.fold(None, |sum: Option<BTreeMap<String, Quantity>>, part| {
            let mut sum = sum.unwrap_or_default();
            capacity::add(&mut sum, part);
            Some(sum)
        });
        match left {
            Some(left) => drop(self.parts.insert(&device.id, left)),
            None => {
                self.parts.remove(&device.id);
                if !self.used.has(&device.id)
                    && let Some((pool, _)) = self.devices.iter().find(|(_, other)| other.id == device.id)
                {
                    counters::give_back(&mut self.left[*pool], &device.takes);
                }
            }
        }
    }
}
