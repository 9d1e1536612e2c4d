//! Estimate: what an expression can cost at most, before there is an object to ask it about.
//!
//! Source: cel-go's `checker/cost.go`, with sizes from schemas as apiextensions-apiserver's `schema/cel/compilation.go` takes them.
mod budget;
mod calls;
mod extent;
#[cfg(test)]
mod tests;

pub(super) use budget::Budget;
pub(super) use extent::{Extent, multiplicity};

use super::checker::Types;
use super::cost::{LIST, MAP, STRUCT, scaled};
use super::expression::{Expression, Fold, FoldKind, Literal, Node};
use super::types::Type;
use extent::Step;

/// How many characters, bytes or elements a value can have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Size {
    least: u64,
    most: u64,
}

impl Size {
    const UNKNOWN: Self = Self { least: 0, most: u64::MAX };

    fn exactly(count: usize) -> Self {
        Self { least: count as u64, most: count as u64 }
    }
    fn up_to(most: u64) -> Self {
        Self { least: 0, most }
    }
    fn or(self, other: Self) -> Self {
        Self { least: self.least.min(other.least), most: self.most.max(other.most) }
    }
    fn and(self, other: Self) -> Self {
        Self { least: self.least.saturating_add(other.least), most: self.most.saturating_add(other.most) }
    }
    fn times(self, other: Self) -> Self {
        Self { least: self.least.saturating_mul(other.least), most: self.most.saturating_mul(other.most) }
    }
}

/// What the entries of a list or map that an expression makes are like.
#[derive(Clone, Copy, Debug)]
struct Entries {
    list: bool,
    key: Size,
    value: Size,
}

/// Where in the schema a value comes from.
#[derive(Clone, Copy, Debug)]
enum Path<'e> {
    /// From no variable.
    None,
    /// From a variable; `None` where the schema doesn't say what is there.
    At(Option<&'e Extent>),
}

impl<'e> Path<'e> {
    /// What has no place gets the variable's own when something of it is looked at: upstream takes the first name of
    /// any path for the variable's.
    fn step(self, root: &'e Extent, step: Step<'_>) -> Self {
        match self {
            Self::None => Self::At(Some(root)),
            Self::At(place) => Self::At(place.and_then(|place| place.step(step))),
        }
    }
    fn size(self) -> Option<Size> {
        match self {
            Self::At(Some(extent)) => Some(Size::up_to(extent.most)),
            Self::None | Self::At(None) => None,
        }
    }
}

/// What is known of a part of an expression.
#[derive(Clone, Copy, Debug)]
struct Seen<'e> {
    cost: u64,
    size: Option<Size>,
    entries: Option<Entries>,
    path: Path<'e>,
}

impl Seen<'_> {
    fn of(cost: u64, size: Option<Size>) -> Self {
        Self { cost, size, entries: None, path: Path::None }
    }
    fn sized(&self) -> Size {
        self.size.unwrap_or(Size::UNKNOWN)
    }
}

struct Estimator<'e> {
    types: &'e Types,
    root: &'e Extent,
    scope: Vec<(&'e str, Seen<'e>)>,
}

/// The most that evaluating a checked expression can cost when its variables are as large as `root` allows.
pub(super) fn most(expression: &Expression, types: &Types, root: &Extent) -> u64 {
    Estimator { types, root, scope: Vec::new() }.look(expression).cost
}

/// Numbers, flags and times are of size one.
fn size_of(kind: &Type) -> Option<Size> {
    match kind {
        Type::Bool | Type::Double | Type::Duration | Type::Int | Type::Timestamp | Type::Uint => Some(Size::exactly(1)),
        Type::Optional(inner) => size_of(inner),
        _ => None,
    }
}

fn literal_size(literal: &Literal) -> Size {
    Size::exactly(match literal {
        Literal::String(text) => text.chars().count(),
        Literal::Bytes(bytes) => bytes.len(),
        Literal::Null | Literal::Bool(_) | Literal::Int(_) | Literal::Uint(_) | Literal::Double(_) => 1,
    })
}

impl<'e> Estimator<'e> {
    fn kind(&self, expression: &Expression) -> &'e Type {
        self.types.of(expression)
    }

    fn look(&mut self, expression: &'e Expression) -> Seen<'e> {
        let by_type = size_of(self.kind(expression));
        match &expression.node {
            Node::Literal(literal) => Seen::of(0, Some(literal_size(literal))),
            Node::Identifier(name) => match self.scope.iter().rev().find(|(local, _)| *local == name.as_str()) {
                Some((_, local)) => Seen { cost: 1, size: local.path.size().or(by_type).or(local.size), ..*local },
                None => Seen { path: Path::At(Some(self.root)), ..Seen::of(1, Some(Size::up_to(self.root.most))) },
            },
            Node::Select { operand, test: true, .. } => Seen::of(self.look(operand).cost, by_type),
            Node::Select { operand, optional: true, .. } => Seen::of(self.look(operand).cost.saturating_add(1), by_type),
            Node::Select { operand, field, .. } => {
                let of = self.look(operand);
                let own = u64::from(matches!(self.kind(operand), Type::Map(..) | Type::Object(_) | Type::Parameter(_)));
                let path = of.path.step(self.root, Step::Field(field));
                Seen { path, ..Seen::of(of.cost.saturating_add(own), path.size().or(by_type)) }
            }
            Node::Call { function, target, arguments } => self.call(expression, function, target.as_deref(), arguments),
            Node::And(terms) | Node::Or(terms) => Seen::of(self.sum(terms), by_type),
            Node::List(elements) => {
                let (mut cost, mut value) = (LIST, None);
                for (element, _) in elements {
                    self.entry(element, &mut cost, &mut value);
                }
                let entries = Entries { list: true, key: Size::exactly(1), value: value.unwrap_or(Size::exactly(0)) };
                Seen { entries: Some(entries), ..Seen::of(cost, Some(Size::exactly(elements.len()))) }
            }
            Node::Map(pairs) => {
                let (mut cost, mut key, mut value) = (MAP, None, None);
                for (key_expression, value_expression, _) in pairs {
                    self.entry(key_expression, &mut cost, &mut key);
                    self.entry(value_expression, &mut cost, &mut value);
                }
                let none = Size::exactly(0);
                let entries = Entries { list: false, key: key.unwrap_or(none), value: value.unwrap_or(none) };
                Seen { entries: Some(entries), ..Seen::of(cost, Some(Size::exactly(pairs.len()))) }
            }
            Node::Struct { fields, .. } => {
                let cost = fields.iter().fold(STRUCT, |cost, (_, value, _)| cost.saturating_add(self.look(value).cost));
                Seen::of(cost, by_type)
            }
            Node::Fold(fold) => self.fold(fold),
            Node::OptionalMap { target, variable, body, flat } => {
                let of = self.look(target).cost.saturating_add(1);
                let inner = match self.kind(target) {
                    Type::Optional(inner) => size_of(inner),
                    _ => None,
                };
                self.scope.push((variable, Seen::of(1, inner)));
                let body = self.look(body);
                self.scope.pop();
                // `target.hasValue() ? optional.of(bind(variable, target.value(), body)) : optional.none()`
                let bound = LIST.saturating_add(of).saturating_add(body.cost).saturating_add(u64::from(!flat));
                let none = by_type.unwrap_or(Size::UNKNOWN);
                let size = if *flat { body.sized().or(none) } else { none };
                Seen::of(of.saturating_add(bound), Some(size))
            }
        }
    }

    fn sum(&mut self, expressions: &'e [Expression]) -> u64 {
        expressions.iter().fold(0, |cost, expression| cost.saturating_add(self.look(expression).cost))
    }

    /// Adds an entry's cost to those before it, and has its size counted among theirs.
    fn entry(&mut self, expression: &'e Expression, cost: &mut u64, size: &mut Option<Size>) {
        let seen = self.look(expression);
        *cost = cost.saturating_add(seen.cost);
        *size = Some(size.map_or(seen.sized(), |before| before.or(seen.sized())));
    }

    fn fold(&mut self, fold: &'e Fold) -> Seen<'e> {
        let range = self.look(&fold.range);
        let list = range.entries.map_or_else(|| matches!(self.kind(&fold.range), Type::List(_)), |entries| entries.list);
        let (key, value) = (range.entries.map(|entries| entries.key), range.entries.map(|entries| entries.value));
        let variable = |step, size| {
            let path = range.path.step(self.root, step);
            Seen { path, ..Seen::of(1, size) }
        };
        let depth = self.scope.len();
        match &fold.second {
            Some(second) => {
                let first = if list { Step::Index } else { Step::Key };
                self.scope.push((&fold.first, variable(first, key)));
                self.scope.push((second, variable(Step::Element, value)));
            }
            None if list => self.scope.push((&fold.first, variable(Step::Element, value))),
            None => self.scope.push((&fold.first, variable(Step::Key, key))),
        }
        let filter = fold.filter.as_ref().map_or(0, |filter| self.look(filter).cost);
        let body = self.look(&fold.body);
        // What a filter keeps is the variable itself.
        let by_type = match self.kind(&fold.range) {
            Type::List(element) => size_of(element),
            _ => None,
        };
        let kept = self.scope.get(depth).and_then(|(_, kept)| kept.path.size().or(by_type).or(kept.size)).unwrap_or(Size::UNKNOWN);
        self.scope.truncate(depth);
        // What a macro stands for: before the first element, for each, and after the last, in cel-go's own expansion.
        let (first, each, last) = match fold.kind {
            FoldKind::All => (0, 3, 1),
            FoldKind::Exists => (0, 4, 1),
            FoldKind::ExistsOne => (0, 2, 2),
            FoldKind::Map | FoldKind::TransformList => (LIST, 2 + LIST, 1),
            FoldKind::Filter => (LIST, 3 + LIST, 1),
            FoldKind::TransformMap => (MAP, 3, 1),
            FoldKind::TransformMapEntry => (MAP, 2, 1),
        };
        let step = body.cost.saturating_add(filter).saturating_add(each);
        let cost = range.cost.saturating_add(first).saturating_add(last).saturating_add(range.sized().most.saturating_mul(step));
        let entries = match fold.kind {
            FoldKind::Map | FoldKind::TransformList => Some(body.sized()),
            FoldKind::Filter => Some(kept),
            _ => None,
        };
        let entries = entries.map(|value| Entries { list: true, key: Size::exactly(1), value: Size::up_to(value.most) });
        let size = if first == 0 { Size::exactly(1) } else { range.sized() };
        Seen { entries, ..Seen::of(cost, Some(size)) }
    }
}
