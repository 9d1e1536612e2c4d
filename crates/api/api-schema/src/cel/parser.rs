//! Parser: CEL's grammar, by recursive descent of bounded depth, so that no expression can exhaust the stack.
use super::expression::{Expression, Fold, FoldKind, Literal, Node};
use super::issue::Issue;
use super::lexer::{Spanned, Token, tokens};

/// How deep parentheses may nest. (Upstream allows 250; here each level has to fit a thread's stack a dozen times over.)
const DEEPEST: usize = 100;
/// Upstream's limit on its length.
const LONGEST: usize = 100_000;
/// How deep the tree may be: each link of a chain of operators or selections is a level of it.
const DEEPEST_TREE: usize = 300;
const RESERVED: [&str; 18] = [
    "as",
    "break",
    "const",
    "continue",
    "else",
    "for",
    "function",
    "if",
    "import",
    "let",
    "loop",
    "namespace",
    "package",
    "return",
    "var",
    "void",
    "while",
    "__result__",
];
const PRIMARY: &str = "{'[', '{', '(', '.', '-', '!', 'true', 'false', 'null', NUM_FLOAT, NUM_INT, NUM_UINT, STRING, BYTES, IDENTIFIER}";

pub(super) fn parse(source: &str) -> Result<Expression, Issue> {
    let characters: Vec<char> = source.chars().collect();
    if characters.len() > LONGEST {
        return Err(Issue::new(0, format!("expression code point size exceeds limit: size: {}, limit {LONGEST}", characters.len())));
    }
    let tokens = tokens(&characters)?;
    let mut parser = Parser { source: &characters, tokens, at: 0, depth: 0 };
    let parsed = parser.expression()?;
    match parser.peek() {
        Token::End => Ok(parsed),
        _ => Err(parser.unexpected("<EOF>", "extraneous")),
    }
}

struct Parser<'s> {
    source: &'s [char],
    tokens: Vec<Spanned>,
    at: usize,
    depth: usize,
}

type Parsed = Result<Expression, Issue>;

impl Parser<'_> {
    fn peek(&self) -> &Token {
        &self.tokens[self.at].token
    }
    fn place(&self) -> usize {
        self.tokens[self.at].at
    }
    fn advance(&mut self) -> Token {
        let token = self.tokens[self.at].token.clone();
        if self.at + 1 < self.tokens.len() {
            self.at += 1;
        }
        token
    }
    fn is(&self, symbol: &str) -> bool {
        matches!(self.peek(), Token::Symbol(s) if *s == symbol)
    }
    fn eat(&mut self, symbol: &str) -> bool {
        let is = self.is(symbol);
        if is {
            self.advance();
        }
        is
    }
    fn expect(&mut self, symbol: &str) -> Result<(), Issue> {
        if self.eat(symbol) { Ok(()) } else { Err(self.unexpected(&format!("'{symbol}'"), "mismatched")) }
    }
    fn unexpected(&self, expected: &str, how: &str) -> Issue {
        let shown = self.peek().shown(self.source, self.place());
        Issue::new(self.place(), format!("Syntax error: {how} input '{shown}' expecting {expected}"))
    }
    fn bounded(&self, expression: &Expression) -> Result<(), Issue> {
        let too_deep = expression.depth > DEEPEST_TREE;
        if too_deep { Err(Issue::new(self.place(), format!("expression recursion limit exceeded: {DEEPEST_TREE}"))) } else { Ok(()) }
    }

    fn expression(&mut self) -> Parsed {
        self.depth += 1;
        if self.depth > DEEPEST {
            return Err(Issue::new(self.place(), format!("expression recursion limit exceeded: {DEEPEST}")));
        }
        let condition = self.or()?;
        let at = self.place();
        let parsed = if self.eat("?") {
            let yes = self.or()?;
            self.expect(":")?;
            let no = self.expression()?;
            call(at, "_?_:_", vec![condition, yes, no])
        } else {
            condition
        };
        self.depth -= 1;
        Ok(parsed)
    }

    fn or(&mut self) -> Parsed {
        let first = self.and()?;
        let at = self.place();
        let mut terms = vec![first];
        while self.eat("||") {
            terms.push(self.and()?);
        }
        Ok(joined(at, terms, Node::Or))
    }

    fn and(&mut self) -> Parsed {
        let first = self.relation()?;
        let at = self.place();
        let mut terms = vec![first];
        while self.eat("&&") {
            terms.push(self.relation()?);
        }
        Ok(joined(at, terms, Node::And))
    }

    fn binary(&mut self, operators: &[(&'static str, &'static str)], below: fn(&mut Self) -> Parsed) -> Parsed {
        let mut left = below(self)?;
        while let Some((_, name)) = operators.iter().find(|(symbol, _)| self.is(symbol)) {
            self.bounded(&left)?;
            let at = self.place();
            self.advance();
            let right = below(self)?;
            left = call(at, name, vec![left, right]);
        }
        Ok(left)
    }

    fn relation(&mut self) -> Parsed {
        const OPERATORS: [(&str, &str); 7] = [("==", "_==_"), ("!=", "_!=_"), ("<=", "_<=_"), (">=", "_>=_"), ("<", "_<_"), (">", "_>_"), ("in", "@in")];
        self.binary(&OPERATORS, Self::sum)
    }
    fn sum(&mut self) -> Parsed {
        self.binary(&[("+", "_+_"), ("-", "_-_")], Self::product)
    }
    fn product(&mut self) -> Parsed {
        self.binary(&[("*", "_*_"), ("/", "_/_"), ("%", "_%_")], Self::unary)
    }

    fn unary(&mut self) -> Parsed {
        let at = self.place();
        for (symbol, name) in [("!", "!_"), ("-", "-_")] {
            let mut count = 0;
            while self.is(symbol) {
                // A minus before a number is part of the number.
                let number = matches!(self.tokens.get(self.at + 1).map(|t| &t.token), Some(Token::Int(_) | Token::Double(_)));
                if symbol == "-" && number {
                    break;
                }
                self.advance();
                count += 1;
            }
            if count > 0 {
                let operand = self.member()?;
                // Pairs cancel out.
                return Ok(if count % 2 == 0 { operand } else { call(at, name, vec![operand]) });
            }
        }
        self.member()
    }

    fn member(&mut self) -> Parsed {
        let mut operand = self.primary()?;
        loop {
            self.bounded(&operand)?;
            let at = self.place();
            if self.eat(".") {
                let optional = self.eat("?");
                let (field, quoted) = match self.advance() {
                    Token::Identifier(name) => (name, false),
                    Token::Quoted(name) => (name, true),
                    Token::Symbol("in") => ("in".to_owned(), false),
                    _ => {
                        self.at -= usize::from(self.at > 0 && *self.peek() != Token::End);
                        return Err(Issue::new(self.place(), "Syntax error: no viable alternative at input '.'"));
                    }
                };
                let open = self.place();
                if !optional && !quoted && self.eat("(") {
                    let arguments = self.arguments(")")?;
                    operand = member_call(open, operand, field, arguments)?;
                } else {
                    operand = Expression::new(at, Node::Select { operand: Box::new(operand), field, test: false, optional });
                }
            } else if self.eat("[") {
                let optional = self.eat("?");
                let index = self.expression()?;
                self.expect("]")?;
                operand = call(at, if optional { "_[?_]" } else { "_[_]" }, vec![operand, index]);
            } else if self.is("{") && type_name(&operand).is_some() {
                let name = type_name(&operand).unwrap_or_default();
                self.advance();
                operand = Expression::new(at, Node::Struct { name, fields: self.fields()? });
            } else {
                return Ok(operand);
            }
        }
    }

    fn primary(&mut self) -> Parsed {
        let at = self.place();
        let literal = |literal: Literal| Ok(Expression::new(at, Node::Literal(literal)));
        let token = self.advance();
        match token {
            Token::String(text) => literal(Literal::String(text)),
            Token::Bytes(bytes) => literal(Literal::Bytes(bytes)),
            Token::Double(number) => literal(Literal::Double(number)),
            Token::Int(text) => literal(Literal::Int(integer(&text, false).ok_or_else(|| Issue::new(at, "invalid int literal"))?)),
            Token::Uint(text) => {
                let number = match text.strip_prefix("0x").or(text.strip_prefix("0X")) {
                    Some(hex) => u64::from_str_radix(hex, 16).ok(),
                    None => text.parse().ok(),
                };
                literal(Literal::Uint(number.ok_or_else(|| Issue::new(at, "invalid uint literal"))?))
            }
            Token::Symbol("-") => match self.advance() {
                Token::Int(text) => literal(Literal::Int(integer(&text, true).ok_or_else(|| Issue::new(at, "invalid int literal"))?)),
                Token::Double(number) => literal(Literal::Double(-number)),
                _ => Err(Issue::new(at, format!("Syntax error: extraneous input '-' expecting {PRIMARY}"))),
            },
            Token::Symbol("true") => literal(Literal::Bool(true)),
            Token::Symbol("false") => literal(Literal::Bool(false)),
            Token::Symbol("null") => literal(Literal::Null),
            Token::Symbol("(") => {
                let inner = self.expression()?;
                self.expect(")")?;
                Ok(inner)
            }
            Token::Symbol("[") => {
                let mut elements = Vec::new();
                while !self.eat("]") {
                    let optional = self.eat("?");
                    elements.push((self.expression()?, optional));
                    if !self.eat(",") {
                        self.expect("]")?;
                        break;
                    }
                }
                Ok(Expression::new(at, Node::List(elements)))
            }
            Token::Symbol("{") => {
                let mut entries = Vec::new();
                while !self.eat("}") {
                    let optional = self.eat("?");
                    let key = self.expression()?;
                    self.expect(":")?;
                    entries.push((key, self.expression()?, optional));
                    if !self.eat(",") {
                        self.expect("}")?;
                        break;
                    }
                }
                Ok(Expression::new(at, Node::Map(entries)))
            }
            Token::Symbol(".") if matches!(self.peek(), Token::Identifier(_)) => self.primary(),
            Token::Identifier(name) => {
                if RESERVED.contains(&name.as_str()) {
                    return Err(Issue::new(at, format!("reserved identifier: {name}")));
                }
                let open = self.place();
                if !self.eat("(") {
                    return Ok(Expression::new(at, Node::Identifier(name)));
                }
                let arguments = self.arguments(")")?;
                global_call(open, name, arguments)
            }
            _ => {
                let shown = token.shown(self.source, at);
                Err(Issue::new(at, format!("Syntax error: mismatched input '{shown}' expecting {PRIMARY}")))
            }
        }
    }

    fn arguments(&mut self, close: &str) -> Result<Vec<Expression>, Issue> {
        let mut arguments = Vec::new();
        if self.eat(close) {
            return Ok(arguments);
        }
        loop {
            arguments.push(self.expression()?);
            if !self.eat(",") {
                self.expect(close)?;
                return Ok(arguments);
            }
        }
    }

    fn fields(&mut self) -> Result<Vec<(String, Expression, bool)>, Issue> {
        let mut fields = Vec::new();
        while !self.eat("}") {
            let optional = self.eat("?");
            let name = match self.advance() {
                Token::Identifier(name) | Token::Quoted(name) => name,
                _ => return Err(self.unexpected("IDENTIFIER", "mismatched")),
            };
            self.expect(":")?;
            fields.push((name, self.expression()?, optional));
            if !self.eat(",") {
                self.expect("}")?;
                break;
            }
        }
        Ok(fields)
    }
}

fn integer(text: &str, negative: bool) -> Option<i64> {
    let magnitude = match text.strip_prefix("0x").or(text.strip_prefix("0X")) {
        Some(hex) => i128::from_str_radix(hex, 16).ok()?,
        None => text.parse::<i128>().ok()?,
    };
    i64::try_from(if negative { -magnitude } else { magnitude }).ok()
}

fn call(at: usize, function: &str, arguments: Vec<Expression>) -> Expression {
    Expression::new(at, Node::Call { function: function.to_owned(), target: None, arguments })
}

fn joined(at: usize, mut terms: Vec<Expression>, node: fn(Vec<Expression>) -> Node) -> Expression {
    match terms.len() {
        1 => terms.remove(0),
        _ => Expression::new(at, node(terms)),
    }
}

/// The dotted name an expression is, for `a.b.C{...}`.
fn type_name(expression: &Expression) -> Option<String> {
    match &expression.node {
        Node::Identifier(name) => Some(name.clone()),
        Node::Select { operand, field, test: false, optional: false } => Some(format!("{}.{field}", type_name(operand)?)),
        _ => None,
    }
}

fn global_call(at: usize, function: String, mut arguments: Vec<Expression>) -> Parsed {
    if function == "has" && arguments.len() == 1 {
        return match arguments.remove(0) {
            Expression { node: Node::Select { operand, field, test: false, optional }, .. } => {
                Ok(Expression::new(at, Node::Select { operand, field, test: true, optional }))
            }
            other => Err(Issue::new(other.at, "invalid argument to has() macro")),
        };
    }
    Ok(Expression::new(at, Node::Call { function, target: None, arguments }))
}

fn member_call(at: usize, target: Expression, function: String, mut arguments: Vec<Expression>) -> Parsed {
    let variable = |expression: &Expression| match &expression.node {
        Node::Identifier(name) => Ok(name.clone()),
        _ => Err(Issue::new(expression.at, "argument must be a simple name")),
    };
    let kind = match (function.as_str(), arguments.len()) {
        ("all", 2 | 3) => Some(FoldKind::All),
        ("exists", 2 | 3) => Some(FoldKind::Exists),
        ("exists_one" | "existsOne", 2 | 3) => Some(FoldKind::ExistsOne),
        ("map", 2 | 3) => Some(FoldKind::Map),
        ("filter", 2) => Some(FoldKind::Filter),
        ("transformList", 3 | 4) => Some(FoldKind::TransformList),
        ("transformMap", 3 | 4) => Some(FoldKind::TransformMap),
        ("transformMapEntry", 3 | 4) => Some(FoldKind::TransformMapEntry),
        _ => None,
    };
    if let Some(kind) = kind {
        let body = arguments.pop().expect("there are at least two");
        let first = variable(&arguments[0])?;
        let transforms = matches!(kind, FoldKind::TransformList | FoldKind::TransformMap | FoldKind::TransformMapEntry);
        let two = transforms || (arguments.len() == 2 && kind != FoldKind::Map);
        let second = if two { Some(variable(&arguments[1])?) } else { None };
        if second.as_ref() == Some(&first) {
            return Err(Issue::new(arguments[1].at, format!("duplicate variable name: {first}")));
        }
        let filter = if arguments.len() > 1 + usize::from(two) { arguments.pop() } else { None };
        return Ok(Expression::new(at, Node::Fold(Box::new(Fold { kind, range: target, first, second, filter, body }))));
    }
    if matches!(function.as_str(), "optMap" | "optFlatMap") && arguments.len() == 2 {
        let body = arguments.pop().expect("there are two");
        let variable = variable(&arguments[0])?;
        let flat = function == "optFlatMap";
        return Ok(Expression::new(at, Node::OptionalMap { target: Box::new(target), variable, body: Box::new(body), flat }));
    }
    // `sets.contains(a, b)`, `optional.of(x)`, `format.named(x)`, `strings.quote(x)`, `ip.isCanonical(x)`: functions with a dot in their name.
    if let Node::Identifier(space) = &target.node
        && matches!(space.as_str(), "sets" | "optional" | "format" | "strings" | "ip" | "jsonpatch")
    {
        let name = format!("{space}.{function}");
        if super::declarations::is_function(&name) {
            return Ok(Expression::new(at, Node::Call { function: name, target: None, arguments }));
        }
    }
    Ok(Expression::new(at, Node::Call { function, target: Some(Box::new(target)), arguments }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_exhausts_the_stack() {
        for source in
            ["(".repeat(90_000), "[".repeat(90_000), "!".repeat(90_000) + "a", "a".to_owned() + &".a".repeat(40_000), "1".to_owned() + &"+1".repeat(40_000)]
        {
            let parsed = parse(&source);
            assert!(parsed.is_err() || source.starts_with('!'), "{}", &source[..10]);
        }
        assert!(parse(&("a".to_owned() + &"&&a".repeat(30_000))).is_ok());
    }

    #[test]
    fn syntax_errors_say_what_was_expected() {
        let error = |source: &str| parse(source).unwrap_err();
        assert_eq!(error("self.a +"), Issue::new(8, format!("Syntax error: mismatched input '<EOF>' expecting {PRIMARY}")));
        assert_eq!(error("a b").message, "Syntax error: extraneous input 'b' expecting <EOF>");
        assert_eq!(error("namespace").message, "reserved identifier: namespace");
        assert_eq!(error("has(a)").message, "invalid argument to has() macro");
    }
}
