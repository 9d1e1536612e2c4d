//! Asked: what a claim asks for, with its device classes looked up.
use super::constraint::Constraint;
use api_meta::Quantity;
use controller_kit::ObjectKey;
use k8s_openapi::api::resource::v1::{CapacityRequirements, DeviceClass, DeviceSelector, DeviceToleration, ResourceClaim};
use std::collections::BTreeMap;
use std::sync::Arc;

#[derive(Clone)]
pub struct Asked {
    pub key: ObjectKey,
    pub claim: Arc<ResourceClaim>,
    pub requests: Vec<Request>,
    pub constraints: Vec<Constraint>,
}

#[derive(Clone)]
pub struct Request {
    /// In the order in which they are preferred; one where the request says exactly what it wants.
    pub alternatives: Vec<Alternative>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Amount {
    Count(usize),
    All,
}

#[derive(Clone)]
pub struct Alternative {
    /// `request`, or `request/alternative`.
    pub name: String,
    pub amount: Amount,
    /// Expressions that must all take a device: the class's, then the request's.
    pub selectors: Vec<String>,
    pub class: Arc<DeviceClass>,
    pub tolerations: Vec<DeviceToleration>,
    pub capacity: BTreeMap<String, Quantity>,
    /// It looks after devices, and takes them from nobody.
    pub is_admin: bool,
}

/// What requests and their alternatives have in common.
struct Wanted<'a> {
    name: String,
    class: &'a str,
    mode: Option<&'a str>,
    count: Option<i64>,
    selectors: Option<&'a Vec<DeviceSelector>>,
    tolerations: Option<&'a Vec<DeviceToleration>>,
    capacity: Option<&'a CapacityRequirements>,
    is_admin: bool,
}

/// # Errors
/// Which class there is not, in upstream's words.
pub fn read(key: &ObjectKey, claim: &Arc<ResourceClaim>, class: &dyn Fn(&str) -> Option<Arc<DeviceClass>>) -> Result<Asked, String> {
    let devices = claim.spec.as_ref().and_then(|spec| spec.devices.clone()).unwrap_or_default();
    let mut requests = Vec::new();
    for request in devices.requests.iter().flatten() {
        let mut alternatives = Vec::new();
        if let Some(exactly) = &request.exactly {
            let wanted = Wanted {
                name: request.name.clone(),
                class: &exactly.device_class_name,
                mode: exactly.allocation_mode.as_deref(),
                count: exactly.count,
                selectors: exactly.selectors.as_ref(),
                tolerations: exactly.tolerations.as_ref(),
                capacity: exactly.capacity.as_ref(),
                is_admin: exactly.admin_access == Some(true),
            };
            alternatives.push(wanted.look_up(class)?);
        }
        for other in request.first_available.iter().flatten() {
            let wanted = Wanted {
                name: format!("{}/{}", request.name, other.name),
                class: &other.device_class_name,
                mode: other.allocation_mode.as_deref(),
                count: other.count,
                selectors: other.selectors.as_ref(),
                tolerations: other.tolerations.as_ref(),
                capacity: other.capacity.as_ref(),
                is_admin: false,
            };
            alternatives.push(wanted.look_up(class)?);
        }
        requests.push(Request { alternatives });
    }
    let constraints = devices.constraints.iter().flatten().filter_map(Constraint::new).collect();
    Ok(Asked { key: key.clone(), claim: claim.clone(), requests, constraints })
}

impl Wanted<'_> {
    fn look_up(self, class: &dyn Fn(&str) -> Option<Arc<DeviceClass>>) -> Result<Alternative, String> {
        let found = class(self.class).ok_or_else(|| format!("request {}: device class {} does not exist", self.name, self.class))?;
        let expressions = |list: Option<&Vec<DeviceSelector>>| -> Vec<String> {
            list.into_iter().flatten().filter_map(|selector| Some(selector.cel.as_ref()?.expression.clone())).collect()
        };
        let mut selectors = expressions(found.spec.as_ref().and_then(|spec| spec.selectors.as_ref()));
        selectors.extend(expressions(self.selectors));
        let capacity = self.capacity.iter().flat_map(|capacity| capacity.requests.iter().flatten());
        Ok(Alternative {
            amount: if self.mode == Some("All") { Amount::All } else { Amount::Count(usize::try_from(self.count.unwrap_or(1)).unwrap_or(1)) },
            selectors,
            class: found,
            tolerations: self.tolerations.cloned().unwrap_or_default(),
            capacity: capacity.filter_map(|(name, amount)| Some((name.clone(), Quantity::parse(&amount.0).ok()?))).collect(),
            is_admin: self.is_admin,
            name: self.name,
        })
    }
}
