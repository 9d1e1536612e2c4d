//! Declarations: the functions of CEL and of Kubernetes' libraries, with the types they take and give.
//!
//! Source: the CEL language definition, cel-go's extensions as Kubernetes 1.37 enables them, and apiserver's `pkg/cel/library`.
use super::types::Type;
use std::collections::HashMap;
use std::sync::{Arc, LazyLock};

pub(super) struct Overload {
    pub member: bool,
    pub parameters: Vec<Type>,
    pub result: Type,
}

pub(super) fn overloads(function: &str) -> Option<&'static [Overload]> {
    FUNCTIONS.get(function).map(Vec::as_slice)
}

pub(super) fn is_function(name: &str) -> bool {
    FUNCTIONS.contains_key(name)
}

static FUNCTIONS: LazyLock<HashMap<&'static str, Vec<Overload>>> = LazyLock::new(|| {
    let mut functions: HashMap<&str, Vec<Overload>> = HashMap::new();
    for line in TABLE.lines().map(str::trim).filter(|line| !line.is_empty()) {
        let (names, overloads) = line.split_once(": ").expect("a line names functions");
        for name in names.split(' ') {
            let all = overloads.split("; ").map(|text| overload(text.trim()));
            functions.entry(name).or_default().extend(all);
        }
    }
    functions
});

fn overload(text: &'static str) -> Overload {
    let (member, text) = text.strip_prefix('.').map_or((false, text), |rest| (true, rest));
    let (parameters, result) = text.split_once(" -> ").expect("an overload has a result");
    let inner = parameters.strip_prefix('(').and_then(|p| p.strip_suffix(')')).expect("parameters are in parentheses");
    Overload { member, parameters: split(inner).into_iter().map(type_of).collect(), result: type_of(result) }
}

/// Splits at the commas that are in no brackets.
fn split(text: &'static str) -> Vec<&'static str> {
    let (mut parts, mut depth, mut start) = (Vec::new(), 0, 0);
    for (at, c) in text.char_indices() {
        match c {
            '<' => depth += 1,
            '>' => depth -= 1,
            ',' if depth == 0 => {
                parts.push(text[start..at].trim());
                start = at + 1;
            }
            _ => {}
        }
    }
    let last = text[start..].trim();
    if !last.is_empty() {
        parts.push(last);
    }
    parts
}

fn type_of(text: &'static str) -> Type {
    let inside = |prefix: &str| text.strip_prefix(prefix).and_then(|rest| rest.strip_suffix('>'));
    if let Some(element) = inside("list<") {
        return Type::List(Arc::new(type_of(element)));
    }
    if let Some(inner) = inside("optional<") {
        return Type::Optional(Arc::new(type_of(inner)));
    }
    if let Some(inner) = inside("map<") {
        let parts = split(inner);
        return Type::Map(Arc::new(type_of(parts[0])), Arc::new(type_of(parts[1])));
    }
    match text {
        "dyn" => Type::Dyn,
        "null" => Type::Null,
        "bool" => Type::Bool,
        "int" => Type::Int,
        "uint" => Type::Uint,
        "double" => Type::Double,
        "string" => Type::String,
        "bytes" => Type::Bytes,
        "timestamp" => Type::Timestamp,
        "duration" => Type::Duration,
        "type" => Type::Type,
        "A" => Type::Parameter('A'),
        "B" => Type::Parameter('B'),
        opaque => Type::Opaque(opaque),
    }
}

const TABLE: &str = "
_==_ _!=_: (A, A) -> bool
_<_ _<=_ _>_ _>=_: (bool, bool) -> bool; (int, int) -> bool; (int, uint) -> bool; (int, double) -> bool; (uint, uint) -> bool; (uint, int) -> bool; (uint, double) -> bool; (double, double) -> bool; (double, int) -> bool; (double, uint) -> bool; (string, string) -> bool; (bytes, bytes) -> bool; (timestamp, timestamp) -> bool; (duration, duration) -> bool
_+_: (int, int) -> int; (uint, uint) -> uint; (double, double) -> double; (string, string) -> string; (bytes, bytes) -> bytes; (list<A>, list<A>) -> list<A>; (timestamp, duration) -> timestamp; (duration, timestamp) -> timestamp; (duration, duration) -> duration
_-_: (int, int) -> int; (uint, uint) -> uint; (double, double) -> double; (timestamp, timestamp) -> duration; (timestamp, duration) -> timestamp; (duration, duration) -> duration
_*_ _/_: (int, int) -> int; (uint, uint) -> uint; (double, double) -> double
_%_: (int, int) -> int; (uint, uint) -> uint
-_: (int) -> int; (double) -> double
!_: (bool) -> bool
_?_:_: (bool, A, A) -> A
@in: (A, list<A>) -> bool; (A, map<A, B>) -> bool
_[_]: (list<A>, int) -> A; (map<A, B>, A) -> B; (optional<list<A>>, int) -> optional<A>; (optional<map<A, B>>, A) -> optional<B>
_[?_]: (list<A>, int) -> optional<A>; (map<A, B>, A) -> optional<B>; (optional<list<A>>, int) -> optional<A>; (optional<map<A, B>>, A) -> optional<B>
size: (string) -> int; (bytes) -> int; (list<A>) -> int; (map<A, B>) -> int; .(string) -> int; .(bytes) -> int; .(list<A>) -> int; .(map<A, B>) -> int
int: (int) -> int; (uint) -> int; (double) -> int; (string) -> int; (timestamp) -> int; (duration) -> int
uint: (uint) -> uint; (int) -> uint; (double) -> uint; (string) -> uint
double: (double) -> double; (int) -> double; (uint) -> double; (string) -> double
string: (string) -> string; (bool) -> string; (int) -> string; (uint) -> string; (double) -> string; (bytes) -> string; (timestamp) -> string; (duration) -> string; (net.IP) -> string; (net.CIDR) -> string
bytes: (bytes) -> bytes; (string) -> bytes
bool: (bool) -> bool; (string) -> bool
timestamp: (timestamp) -> timestamp; (string) -> timestamp; (int) -> timestamp
duration: (duration) -> duration; (string) -> duration; (int) -> duration
type: (A) -> type
dyn: (A) -> dyn
contains startsWith endsWith: .(string, string) -> bool
matches: .(string, string) -> bool; (string, string) -> bool
getFullYear getMonth getDayOfYear getDayOfMonth getDate getDayOfWeek: .(timestamp) -> int; .(timestamp, string) -> int
getHours getMinutes getSeconds getMilliseconds: .(timestamp) -> int; .(timestamp, string) -> int; .(duration) -> int
charAt: .(string, int) -> string
indexOf lastIndexOf: .(string, string) -> int; .(string, string, int) -> int; .(list<A>, A) -> int
join: .(list<string>) -> string; .(list<string>, string) -> string
lowerAscii upperAscii trim: .(string) -> string
replace: .(string, string, string) -> string; .(string, string, string, int) -> string
split: .(string, string) -> list<string>; .(string, string, int) -> list<string>
substring: .(string, int) -> string; .(string, int, int) -> string
strings.quote: (string) -> string
find: .(string, string) -> string
findAll: .(string, string) -> list<string>; .(string, string, int) -> list<string>
isSorted: .(list<int>) -> bool; .(list<uint>) -> bool; .(list<double>) -> bool; .(list<bool>) -> bool; .(list<duration>) -> bool; .(list<timestamp>) -> bool; .(list<string>) -> bool; .(list<bytes>) -> bool
sum: .(list<int>) -> int; .(list<uint>) -> uint; .(list<double>) -> double; .(list<duration>) -> duration
min max: .(list<int>) -> int; .(list<uint>) -> uint; .(list<double>) -> double; .(list<bool>) -> bool; .(list<duration>) -> duration; .(list<timestamp>) -> timestamp; .(list<string>) -> string; .(list<bytes>) -> bytes
sets.contains sets.equivalent sets.intersects: (list<A>, list<A>) -> bool
url: (string) -> kubernetes.URL
isURL: (string) -> bool
getScheme getHost getHostname getPort getEscapedPath: .(kubernetes.URL) -> string
getQuery: .(kubernetes.URL) -> map<string, list<string>>
quantity: (string) -> kubernetes.Quantity
isQuantity: (string) -> bool
isInteger: .(kubernetes.Quantity) -> bool
asInteger sign: .(kubernetes.Quantity) -> int
asApproximateFloat: .(kubernetes.Quantity) -> double
isGreaterThan isLessThan: .(kubernetes.Quantity, kubernetes.Quantity) -> bool; .(kubernetes.Semver, kubernetes.Semver) -> bool
compareTo: .(kubernetes.Quantity, kubernetes.Quantity) -> int; .(kubernetes.Semver, kubernetes.Semver) -> int
add sub: .(kubernetes.Quantity, kubernetes.Quantity) -> kubernetes.Quantity; .(kubernetes.Quantity, int) -> kubernetes.Quantity
semver: (string) -> kubernetes.Semver; (string, bool) -> kubernetes.Semver
isSemver: (string) -> bool; (string, bool) -> bool
major minor patch: .(kubernetes.Semver) -> int
ip: (string) -> net.IP; .(net.CIDR) -> net.IP
isIP isCIDR ip.isCanonical: (string) -> bool
family: .(net.IP) -> int
isUnspecified isLoopback isLinkLocalMulticast isLinkLocalUnicast isGlobalUnicast: .(net.IP) -> bool
cidr: (string) -> net.CIDR
containsIP: .(net.CIDR, string) -> bool; .(net.CIDR, net.IP) -> bool
containsCIDR: .(net.CIDR, string) -> bool; .(net.CIDR, net.CIDR) -> bool
masked: .(net.CIDR) -> net.CIDR
prefixLength: .(net.CIDR) -> int
format: .(string, list<dyn>) -> string
format.named: (string) -> optional<kubernetes.NamedFormat>
format.dns1123Label format.dns1123Subdomain format.dns1035Label format.qualifiedName format.dns1123LabelPrefix format.dns1123SubdomainPrefix format.dns1035LabelPrefix format.labelValue format.uri format.uuid format.byte format.date format.datetime: () -> kubernetes.NamedFormat
validate: .(kubernetes.NamedFormat, string) -> optional<list<string>>
optional.of optional.ofNonZeroValue: (A) -> optional<A>
optional.none: () -> optional<A>
hasValue: .(optional<A>) -> bool
value: .(optional<A>) -> A
or: .(optional<A>, optional<A>) -> optional<A>
orValue: .(optional<A>, A) -> A
jsonpatch.escapeKey: (string) -> string
path: .(kubernetes.authorization.Authorizer, string) -> kubernetes.authorization.PathCheck
group: .(kubernetes.authorization.Authorizer, string) -> kubernetes.authorization.GroupCheck
serviceAccount: .(kubernetes.authorization.Authorizer, string, string) -> kubernetes.authorization.Authorizer
resource: .(kubernetes.authorization.GroupCheck, string) -> kubernetes.authorization.ResourceCheck
subresource namespace name fieldSelector labelSelector: .(kubernetes.authorization.ResourceCheck, string) -> kubernetes.authorization.ResourceCheck
check: .(kubernetes.authorization.PathCheck, string) -> kubernetes.authorization.Decision; .(kubernetes.authorization.ResourceCheck, string) -> kubernetes.authorization.Decision
errored allowed: .(kubernetes.authorization.Decision) -> bool
error reason: .(kubernetes.authorization.Decision) -> string
";
