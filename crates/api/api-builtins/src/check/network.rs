//! Addresses, ranges and ports.
use super::at::{At, Report};
use super::names::port_name;
use crate::fields::Read;
use api_meta::FieldErrors;
use ipnet::IpNet;
use serde_json::Value;
use std::net::{IpAddr, Ipv4Addr};

pub const PROTOCOLS: &[&str] = &["SCTP", "TCP", "UDP"];
const IP: &str = "must be a valid IP address, (e.g. 10.9.8.7 or 2001:db8::ffff)";
const CIDR: &str = "must be a valid CIDR value, (e.g. 10.9.8.0/24 or 2001:db8::/64)";

/// An address.
pub fn ip(errors: &mut FieldErrors, at: &At) -> Option<IpAddr> {
    let address = at.text().parse().ok();
    if address.is_none() {
        errors.invalid(at, IP);
    }
    address
}

/// A range of addresses.
pub fn cidr(errors: &mut FieldErrors, at: &At) -> Option<IpNet> {
    let range = at.text().trim().parse().ok();
    if range.is_none() {
        errors.invalid(at, CIDR);
    }
    range
}

/// At most two of a list, one of each family.
pub fn one_of_each_family(errors: &mut FieldErrors, at: &At, families: &[bool], detail: &str) {
    if families.len() > 2 || (families.len() == 2 && families[0] == families[1]) {
        errors.invalid(at, detail);
    }
}

/// An address that traffic can be sent to from elsewhere.
pub fn routable(errors: &mut FieldErrors, at: &At) {
    let Some(address) = ip(errors, at) else { return };
    if address.is_unspecified() {
        errors.invalid(at, format!("may not be unspecified ({address})"));
    }
    if address.is_loopback() {
        errors.invalid(at, "may not be in the loopback range (127.0.0.0/8, ::1/128)");
    }
    let (link_local, link_multicast) = match address {
        IpAddr::V4(v4) => (v4.is_link_local(), v4 & Ipv4Addr::new(255, 255, 255, 0) == Ipv4Addr::new(224, 0, 0, 0)),
        IpAddr::V6(v6) => (v6.is_unicast_link_local(), v6.segments()[0] & 0xff0f == 0xff02),
    };
    if link_local {
        errors.invalid(at, "may not be in the link-local range (169.254.0.0/16, fe80::/10)");
    }
    if link_multicast {
        errors.invalid(at, "may not be in the link-local multicast range (224.0.0.0/24, ff02::/10)");
    }
}

/// A port number.
pub fn port(errors: &mut FieldErrors, at: &At) {
    if !at.int().is_some_and(|port| (1..=65535).contains(&port)) {
        errors.invalid_as(at, at.int().unwrap_or_default(), "must be between 1 and 65535, inclusive");
    }
}

/// A port number, or the name of a container's port.
pub fn port_or_name(errors: &mut FieldErrors, at: &At) {
    match at.value() {
        Value::String(name) => errors.reasons(at, port_name(name)),
        _ => port(errors, at),
    }
}
