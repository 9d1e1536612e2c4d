//! The status of a ResourceClaim: what was allocated, for whom, and what drivers tell of the devices.
use crate::check::{At, Report, selectors};
use crate::fields::Read;
use crate::resource::{device_requests, devices};
use api_meta::{FieldErrors, names};
use serde_json::Value;

const MOST_USERS: usize = 256;
const MOST_RESULTS: usize = 32;
const MOST_CONFIGS: usize = 64;
const LONGEST_DATA: usize = 10 << 10;

pub fn validate(new: &Value, old: &Value) -> FieldErrors {
    let mut errors = FieldErrors::new();
    let root = At::root(new);
    let status = root.field("status");
    let (before, allocation) = (&old["status"], status.field("allocation"));
    users(&mut errors, new, before, &status);
    told(&mut errors, &status);
    match (before["allocation"].is_null(), allocation.is_null()) {
        (false, false) => errors.immutable(&allocation, &before["allocation"]),
        (true, false) => allocated(&mut errors, &new["spec"], &allocation),
        _ => {}
    }
    errors
}

fn users(errors: &mut FieldErrors, new: &Value, before: &Value, status: &At) {
    let users = status.field("reservedFor");
    let list = users.list();
    if list.len() > MOST_USERS {
        errors.too_many(&users, list.len(), MOST_USERS);
    }
    for (index, user) in users.items().enumerate() {
        for field in ["resource", "name", "uid"] {
            let value = user.field(field);
            if value.text().is_empty() {
                errors.required(&value, "");
            }
        }
        if list[..index].iter().any(|other| other["uid"] == user["uid"]) {
            errors.duplicate(&user);
        }
    }
    if list.is_empty() {
        return;
    }
    if status["allocation"].is_null() {
        errors.forbidden(&users, "may not be specified when `allocated` is not set");
    } else if new["metadata"]["deletionTimestamp"].is_set() && list.iter().any(|user| !before["reservedFor"].list().contains(user)) {
        errors.forbidden(&users, "new entries may not be added while `deallocationRequested` or `deletionTimestamp` are set");
    }
}

fn identity(device: &Value) -> [&Value; 4] {
    ["driver", "pool", "device", "shareID"].map(|field| &device[field])
}

/// What drivers tell of allocated devices.
fn told(errors: &mut FieldErrors, status: &At) {
    let list = status.field("devices");
    let results = &status["allocation"]["devices"]["results"];
    for (index, device) in list.items().enumerate() {
        if list.list()[..index].iter().any(|other| identity(other) == identity(&device)) {
            errors.duplicate(&device);
            continue;
        }
        devices::driver_name(errors, &device.field("driver"));
        devices::pool_name(errors, &device.field("pool"));
        errors.named(&device.field("device"), names::dns1123_label);
        if !results.list().iter().any(|result| identity(result) == identity(&device)) {
            errors.invalid(&device, "must be an allocated device in the claim");
        }
        let data = device.field("data");
        if data.is_set() && !data.is_object() {
            errors.invalid_as(&data, "<value omitted>", "must be a valid JSON object");
        } else if data.is_set() && data.to_string().len() > LONGEST_DATA {
            errors.too_long(&data, LONGEST_DATA);
        }
        network(errors, &device.field("networkData"));
    }
}

fn network(errors: &mut FieldErrors, at: &At) {
    const MOST_ADDRESSES: usize = 16;
    for (field, longest) in [("interfaceName", 256), ("hardwareAddress", 128)] {
        let text = at.field(field);
        if text.text().len() > longest {
            errors.too_long(&text, longest);
        }
    }
    let addresses = at.field("ips");
    if addresses.list().len() > MOST_ADDRESSES {
        errors.too_many(&addresses, addresses.list().len(), MOST_ADDRESSES);
    }
    for (index, address) in addresses.items().enumerate() {
        if addresses.list()[..index].contains(address.value()) {
            errors.duplicate(&address);
        } else if !is_interface_address(address.text()) {
            errors.invalid(&address, "must be a valid address in CIDR form, (e.g. 10.9.8.7/24 or 2001:db8::1/64)");
        }
    }
}

fn is_interface_address(text: &str) -> bool {
    let Some((address, bits)) = text.split_once('/') else { return false };
    let most = match address.parse::<std::net::IpAddr>() {
        Ok(std::net::IpAddr::V4(_)) => 32,
        Ok(std::net::IpAddr::V6(_)) => 128,
        Err(_) => return false,
    };
    bits.parse::<u8>().is_ok_and(|bits| bits <= most)
}

fn allocated(errors: &mut FieldErrors, spec: &Value, at: &At) {
    let (results, configs) = (at.field("devices.results"), at.field("devices.config"));
    for (list, most) in [(&results, MOST_RESULTS), (&configs, MOST_CONFIGS)] {
        if list.list().len() > most {
            errors.too_many(list, list.list().len(), most);
        }
    }
    let mut known = |at: &At| {
        if !device_requests::is_known(spec, at.text()) {
            errors.invalid(at, device_requests::UNKNOWN_REQUEST);
        }
    };
    results.items().for_each(|result| known(&result.field("request")));
    configs.items().for_each(|config| config.field("requests").items().for_each(|request| known(&request)));
    for result in results.items() {
        devices::driver_name(errors, &result.field("driver"));
        devices::pool_name(errors, &result.field("pool"));
        errors.named(&result.field("device"), names::dns1123_label);
    }
    for config in configs.items() {
        let source = config.field("source");
        if source.text().is_empty() {
            errors.required(&source, "");
        } else {
            errors.one_of(&source, &["FromClaim", "FromClass"]);
        }
        device_requests::configuration(errors, &config);
    }
    let selector = at.field("nodeSelector");
    if selector.is_set() {
        selectors::node_selector(errors, &selector);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn claim(status: Value) -> Value {
        json!({"metadata": {"name": "c"}, "spec": {"devices": {"requests": [{"name": "r", "exactly": {"deviceClassName": "gpu"}}]}}, "status": status})
    }

    fn allocation(device: &str) -> Value {
        json!({"devices": {"results": [{"request": "r", "driver": "gpu.example.com", "pool": "n1", "device": device}]}})
    }

    fn check(old: Value, new: Value) -> String {
        validate(&claim(new), &claim(old)).iter().map(ToString::to_string).collect::<Vec<_>>().join("; ")
    }

    #[test]
    fn an_allocation_stays_what_it_is_until_it_is_taken_back() {
        let pod = json!({"resource": "pods", "name": "p", "uid": "u"});
        assert_eq!(check(json!({}), json!({"allocation": allocation("a"), "reservedFor": [pod]})), "");
        assert_eq!(check(json!({"allocation": allocation("a")}), json!({})), "");
        assert!(check(json!({"allocation": allocation("a")}), json!({"allocation": allocation("b")})).contains("status.allocation: Invalid value"));
        assert_eq!(check(json!({}), json!({"reservedFor": [pod]})), "status.reservedFor: Forbidden: may not be specified when `allocated` is not set");
        let users: Vec<Value> = (0..257).map(|n| json!({"resource": "pods", "name": "p", "uid": n.to_string()})).collect();
        assert_eq!(
            check(json!({}), json!({"allocation": allocation("a"), "reservedFor": users})),
            "status.reservedFor: Too many: 257: must have at most 256 items"
        );
        let mut unknown = allocation("a");
        unknown["devices"]["results"][0]["request"] = json!("other");
        assert!(check(json!({}), json!({"allocation": unknown})).contains("status.allocation.devices.results[0].request: Invalid value: \"other\""));
    }

    #[test]
    fn drivers_tell_of_allocated_devices_alone() {
        let told = |device: &str| {
            json!({"allocation": allocation("a"), "devices": [{"driver": "gpu.example.com", "pool": "n1", "device": device,
            "networkData": {"interfaceName": "eth1", "ips": ["10.1.2.3/24"]}}]})
        };
        assert_eq!(check(json!({"allocation": allocation("a")}), told("a")), "");
        assert!(check(json!({"allocation": allocation("a")}), told("b")).contains("must be an allocated device in the claim"));
    }
}
