//! Expression: the syntax tree of CEL, with macros as nodes of their own.

/// A node and the character it stands at.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Expression {
    pub at: usize,
    /// How many levels of nodes there are from here on down.
    pub depth: usize,
    pub node: Node,
}

#[derive(Clone, Debug, PartialEq)]
pub(super) enum Node {
    Literal(Literal),
    Identifier(String),
    /// `operand.field`; `test` for `has()`, `optional` for `.?field`.
    Select {
        operand: Box<Expression>,
        field: String,
        test: bool,
        optional: bool,
    },
    /// A function or an operator (by CEL's name for it, e.g. `_+_`).
    Call {
        function: String,
        target: Option<Box<Expression>>,
        arguments: Vec<Expression>,
    },
    And(Vec<Expression>),
    Or(Vec<Expression>),
    /// Elements, each with whether it is optional.
    List(Vec<(Expression, bool)>),
    Map(Vec<(Expression, Expression, bool)>),
    Struct {
        name: String,
        fields: Vec<(String, Expression, bool)>,
    },
    Fold(Box<Fold>),
    /// `target.optMap(v, body)`, and `optFlatMap` when `flat`.
    OptionalMap {
        target: Box<Expression>,
        variable: String,
        body: Box<Expression>,
        flat: bool,
    },
}

#[derive(Clone, Debug, PartialEq)]
pub(super) enum Literal {
    Null,
    Bool(bool),
    Int(i64),
    Uint(u64),
    Double(f64),
    String(String),
    Bytes(Vec<u8>),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum FoldKind {
    All,
    Exists,
    ExistsOne,
    Map,
    Filter,
    TransformList,
    TransformMap,
    TransformMapEntry,
}

/// A macro over a list or a map.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Fold {
    pub kind: FoldKind,
    pub range: Expression,
    /// The variable of one-variable macros; index or key of two-variable ones.
    pub first: String,
    pub second: Option<String>,
    pub filter: Option<Expression>,
    pub body: Expression,
}

impl Expression {
    pub fn new(at: usize, node: Node) -> Self {
        let depth = |expressions: &mut dyn Iterator<Item = &Expression>| expressions.map(|e| e.depth).max().unwrap_or(0);
        let below = match &node {
            Node::Literal(_) | Node::Identifier(_) => 0,
            Node::Select { operand, .. } => operand.depth,
            Node::Call { target, arguments, .. } => depth(&mut target.iter().map(|t| &**t).chain(arguments)),
            Node::And(terms) | Node::Or(terms) => depth(&mut terms.iter()),
            Node::List(elements) => depth(&mut elements.iter().map(|(e, _)| e)),
            Node::Map(entries) => depth(&mut entries.iter().flat_map(|(key, value, _)| [key, value])),
            Node::Struct { fields, .. } => depth(&mut fields.iter().map(|(_, e, _)| e)),
            Node::Fold(fold) => depth(&mut [Some(&fold.range), fold.filter.as_ref(), Some(&fold.body)].into_iter().flatten()),
            Node::OptionalMap { target, body, .. } => target.depth.max(body.depth),
        };
        Self { at, depth: below + 1, node }
    }

    /// Calls `visit` with every name a variable is looked up by (`variables.x` counts as itself).
    pub fn names(&self, visit: &mut impl FnMut(&str)) {
        match &self.node {
            Node::Literal(_) => {}
            Node::Identifier(name) => visit(name),
            Node::Select { operand, field, .. } => {
                if let Node::Identifier(name) = &operand.node {
                    visit(&format!("{name}.{field}"));
                }
                operand.names(visit);
            }
            Node::Call { target, arguments, .. } => target.iter().map(|t| &**t).chain(arguments).for_each(|e| e.names(visit)),
            Node::And(terms) | Node::Or(terms) => terms.iter().for_each(|e| e.names(visit)),
            Node::List(elements) => elements.iter().for_each(|(e, _)| e.names(visit)),
            Node::Map(entries) => entries.iter().for_each(|(key, value, _)| {
                key.names(visit);
                value.names(visit);
            }),
            Node::Struct { fields, .. } => fields.iter().for_each(|(_, e, _)| e.names(visit)),
            Node::Fold(fold) => [Some(&fold.range), fold.filter.as_ref(), Some(&fold.body)].into_iter().flatten().for_each(|e| e.names(visit)),
            Node::OptionalMap { target, body, .. } => {
                target.names(visit);
                body.names(visit);
            }
        }
    }
}
