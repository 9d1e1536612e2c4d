//! What a call can cost, by its function and the sizes of what it is given.
//!
//! Source: cel-go's `checker/cost.go` and `ext/sets.go`, and apiserver's `pkg/cel/library/cost.go`.
use super::extent::Step;
use super::{Entries, Estimator, Extent, Path, Seen, Size, scaled, size_of};
use crate::cel::checker::applied;
use crate::cel::cost::{REGEX, TRAVERSAL};
use crate::cel::declarations::{Overload, overloads};
use crate::cel::expression::{Expression, Literal, Node};
use crate::cel::types::Type;

/// The longest name of a format, and the longest expression behind one.
const FORMAT_NAME: u64 = 64;
const FORMAT_REGEX: f64 = 128.0;

/// A call's own cost, and the size of its result where that is known.
struct Estimate {
    cost: u64,
    size: Option<Size>,
}

impl Estimate {
    fn of(cost: u64) -> Self {
        Self { cost, size: None }
    }
    fn sized(cost: u64, size: Size) -> Self {
        Self { cost, size: Some(size) }
    }
}

impl<'e> Estimator<'e> {
    pub(super) fn call(&mut self, expression: &'e Expression, function: &str, target: Option<&'e Expression>, arguments: &'e [Expression]) -> Seen<'e> {
        let expressions: Vec<&Expression> = target.into_iter().chain(arguments).collect();
        let given: Vec<Seen<'e>> = expressions.iter().map(|argument| self.look(argument)).collect();
        let kinds: Vec<Type> = expressions.iter().map(|argument| self.kind(argument).clone()).collect();
        let cost = given.iter().fold(0_u64, |cost, seen| cost.saturating_add(seen.cost));
        match (function, given.as_slice()) {
            ("dyn", [of]) => return Seen { cost: cost.saturating_add(1), path: Path::None, ..*of },
            ("_?_:_", [condition, yes, no]) => {
                let entries = yes.entries.zip(no.entries).map(|(yes, no)| Entries { list: yes.list, key: yes.key.or(no.key), value: yes.value.or(no.value) });
                return Seen { entries, ..Seen::of(condition.cost.saturating_add(yes.cost.max(no.cost)), Some(yes.sized().or(no.sized()))) };
            }
            _ => {}
        }
        let call = Call { function, expressions, given: &given, kinds: &kinds, root: self.root };
        let by_type = size_of(self.kind(expression));
        let (mut own, mut size, mut path) = (None, None::<Size>, Path::None);
        let all = overloads(function).unwrap_or_default();
        for overload in all.iter().filter(|o| o.member == target.is_some() && o.parameters.len() == kinds.len() && applied(o, &kinds).is_some()) {
            let estimate = call.estimate(overload);
            own = own.max(Some(estimate.cost));
            size = match (size, estimate.size) {
                (Some(before), Some(found)) => Some(before.or(found)),
                (before, found) => before.or(found),
            };
            if function == "_[_]" && matches!(overload.parameters[0], Type::List(_) | Type::Map(..)) {
                size = given[0].entries.map(|entries| entries.value);
                path = given[0].path.step(self.root, Step::Element);
            }
            size = size.or(path.size()).or(by_type);
        }
        let entries = match (function, given.as_slice()) {
            ("_+_", [left, right]) => {
                left.entries.zip(right.entries).map(|(left, right)| Entries { list: left.list, key: left.key.or(right.key), value: left.value.or(right.value) })
            }
            _ => None,
        };
        Seen { cost: own.map_or(0, |own| cost.saturating_add(own)), size, entries, path }
    }
}

struct Call<'c, 'e> {
    function: &'c str,
    /// What the method is called on, if it is one, and the arguments.
    expressions: Vec<&'c Expression>,
    given: &'c [Seen<'e>],
    kinds: &'c [Type],
    root: &'e Extent,
}

impl Call<'_, '_> {
    fn size(&self, index: usize) -> Size {
        self.given.get(index).map_or(Size::exactly(0), Seen::sized)
    }
    /// What walking through a text costs.
    fn walk(&self, index: usize, times: f64) -> u64 {
        scaled(self.size(index).most, times * TRAVERSAL)
    }
    fn is_text(kind: &Type) -> bool {
        matches!(kind, Type::String | Type::Bytes)
    }

    fn estimate(&self, overload: &Overload) -> Estimate {
        let first = overload.parameters.first();
        let text = first.is_some_and(Self::is_text);
        match self.function {
            "isSorted" | "sum" | "max" | "min" | "indexOf" | "lastIndexOf" => Estimate::of(self.over_elements()),
            "url" | "jsonpatch.escapeKey" | "lowerAscii" | "upperAscii" | "substring" | "trim" => Estimate::sized(self.walk(0, 1.0), self.size(0)),
            "replace" => Estimate::sized(self.walk(0, 2.0), replaced(self.size(0), self.size(1), self.size(2))),
            "split" => Estimate::sized(self.walk(0, 2.0), Size::up_to(self.limit().unwrap_or(self.size(0).most))),
            "join" => {
                let joined = self.joined();
                Estimate::sized(scaled(joined.most, TRAVERSAL), joined)
            }
            "find" | "findAll" => Estimate::sized(self.matching(), Size::up_to(self.size(0).most)),
            "matches" if overload.member => Estimate::of(self.matching()),
            "cidr" | "isIP" | "isCIDR" | "quantity" | "isQuantity" | "semver" | "isSemver" => Estimate::of(self.walk(0, 1.0)),
            "ip" if !overload.member => Estimate::of(self.walk(0, 1.0)),
            "ip.isCanonical" => Estimate::of(self.walk(0, 2.0)),
            "containsIP" => Estimate::of(scaled(32, TRAVERSAL).saturating_add(self.parsed(overload))),
            "containsCIDR" => Estimate::of((scaled(32, TRAVERSAL) + scaled(16, TRAVERSAL) + 1).saturating_add(self.parsed(overload))),
            "validate" => Estimate::of(scaled(self.walk(1, 1.0), FORMAT_REGEX * REGEX)),
            "sets.contains" | "sets.intersects" => Estimate::of(self.pairs().saturating_add(1)),
            "sets.equivalent" => Estimate::of(scaled(self.pairs(), 2.0).saturating_add(1)),
            "_==_" | "_!=_" => Estimate::of(self.compared()),
            "_<_" | "_<=_" | "_>_" | "_>=_" if text => Estimate::of(self.shorter()),
            "_+_" if text || matches!(first, Some(Type::List(_))) => {
                let size = self.size(0).and(self.size(1));
                Estimate::sized(if text { scaled(size.most, TRAVERSAL) } else { 1 }, size)
            }
            "@in" if matches!(overload.parameters.get(1), Some(Type::List(_))) => Estimate::of(self.size(1).most),
            "startsWith" | "endsWith" => Estimate::of(self.walk(1, 1.0)),
            "contains" => Estimate::of(self.walk(0, 1.0).saturating_mul(self.walk(1, 1.0))),
            "format" => Estimate::of(self.walk(0, 1.0)),
            "bytes" if first == Some(&Type::String) => {
                let size = self.size(0);
                // Upstream lets this go round.
                Estimate::sized(self.walk(0, 1.0), Size { least: size.least, most: size.most.wrapping_mul(4) })
            }
            "string" if first == Some(&Type::Bytes) => {
                let size = self.size(0);
                Estimate::sized(self.walk(0, 1.0), Size { least: size.least / 4, most: size.most })
            }
            "strings.quote" => {
                let size = self.size(0);
                let quoted = Size { least: size.least.wrapping_add(2), most: size.most.wrapping_mul(2).wrapping_add(2) };
                Estimate::sized(self.walk(0, 1.0), quoted)
            }
            _ => Estimate::of(1),
        }
    }

    /// Each element is looked at, texts all through.
    fn over_elements(&self) -> u64 {
        let Type::List(element) = &self.kinds[0] else { return self.walk(0, 1.0) };
        let inside = match self.given[0].path {
            Path::None => None,
            path => path.step(self.root, Step::Element).size(),
        };
        let each = if Self::is_text(element) { scaled(inside.unwrap_or(Size::UNKNOWN).most, TRAVERSAL).saturating_add(1) } else { 1 };
        self.size(0).most.saturating_mul(each)
    }

    fn joined(&self) -> Size {
        let inside = match self.given[0].path {
            Path::None => None,
            path => path.step(self.root, Step::Element).size(),
        };
        let list = self.size(0);
        let texts = list.times(inside.unwrap_or(Size::UNKNOWN));
        if self.given.len() < 2 {
            return texts;
        }
        let gaps = Size { least: list.least.saturating_sub(1), most: list.most.saturating_sub(1) };
        texts.and(self.size(1).times(gaps))
    }

    /// The limit of a `split` that is written out.
    fn limit(&self) -> Option<u64> {
        match &self.expressions.get(2)?.node {
            Node::Literal(Literal::Int(limit)) => Some(*limit as u64),
            _ => None,
        }
    }

    /// An empty text may still be matched expensively.
    fn matching(&self) -> u64 {
        scaled(self.size(0).most.saturating_add(1), TRAVERSAL).saturating_mul(scaled(self.size(1).most, REGEX))
    }

    /// What reading an address or a range costs that is given as a text.
    fn parsed(&self, overload: &Overload) -> u64 {
        if overload.parameters.get(1) == Some(&Type::String) { self.walk(1, 1.0) } else { 0 }
    }

    fn pairs(&self) -> u64 {
        self.size(0).most.saturating_mul(self.size(1).most)
    }

    fn shorter(&self) -> u64 {
        scaled(self.size(0).most.min(self.size(1).most), TRAVERSAL)
    }

    fn compared(&self) -> u64 {
        match (&self.kinds[0], &self.kinds[1]) {
            (Type::Opaque(left), Type::Opaque(right)) if left == right && self.function == "_==_" => match *left {
                "kubernetes.NamedFormat" => scaled(FORMAT_NAME, TRAVERSAL),
                "kubernetes.URL" => scaled(self.given[1].size.map_or(1, |size| size.most), TRAVERSAL),
                _ => 1,
            },
            _ => self.shorter(),
        }
    }
}

/// What is left and what is put in, when the most is made of it and when the least is.
fn replaced(text: Size, old: Size, new: Size) -> Size {
    let times = |text: u64, old: u64| (text as f64 / old as f64).ceil() as u64;
    let (often, kept) = match old.least {
        0 => (text.most.saturating_add(1), text.most),
        least if new.most <= least => (0, text.most),
        least => (times(text.most, least), 0),
    };
    let (seldom, left) = match old.most {
        0 => (text.least.saturating_add(1), text.least),
        most if most <= new.least => (0, text.least),
        most => (times(text.least, most), 0),
    };
    Size { least: seldom, most: often }.times(new).and(Size { least: left, most: kept })
}
