//! The query-string grammar of label selectors, with upstream's own words for what it does not understand.
use crate::label_selector::{Operator, Requirement};
use crate::names;
use std::collections::BTreeSet;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Token {
    Identifier,
    In,
    NotIn,
    Equals,
    DoubleEquals,
    NotEquals,
    GreaterThan,
    LessThan,
    DoesNotExist,
    Open,
    Close,
    Comma,
    End,
    Error,
}

fn keyword(text: &str) -> Option<Token> {
    Some(match text {
        ")" => Token::Close,
        "," => Token::Comma,
        "!" => Token::DoesNotExist,
        "==" => Token::DoubleEquals,
        "=" => Token::Equals,
        ">" => Token::GreaterThan,
        "in" => Token::In,
        "<" => Token::LessThan,
        "!=" => Token::NotEquals,
        "notin" => Token::NotIn,
        "(" => Token::Open,
        _ => return None,
    })
}

fn is_special(c: char) -> bool {
    matches!(c, '=' | '!' | '(' | ')' | ',' | '>' | '<')
}

fn is_space(c: char) -> bool {
    matches!(c, ' ' | '\t' | '\r' | '\n')
}

/// The tokens of a selector with their texts; the last one is the end.
fn tokens(text: &str) -> Vec<(Token, &str)> {
    let mut tokens = Vec::new();
    let mut rest = text.trim_start_matches(is_space);
    while let Some(first) = rest.chars().next() {
        let length = if is_special(first) {
            let run = rest.find(|c| !is_special(c)).unwrap_or(rest.len());
            // The longest of the operators, which are one or two characters.
            (1..=run.min(2)).rev().find(|length| keyword(&rest[..*length]).is_some()).unwrap_or(run)
        } else {
            rest.find(|c| is_special(c) || is_space(c)).unwrap_or(rest.len())
        };
        let (word, after) = rest.split_at(length);
        let otherwise = if is_special(first) { Token::Error } else { Token::Identifier };
        tokens.push((keyword(word).unwrap_or(otherwise), word));
        rest = after.trim_start_matches(is_space);
    }
    tokens.push((Token::End, ""));
    tokens
}

struct Parser<'a> {
    tokens: Vec<(Token, &'a str)>,
    at: usize,
}

/// Parses the `labelSelector` query parameter. Errors are worded as upstream's `labels.Parse` words them.
pub(crate) fn parse(text: &str) -> Result<Vec<Requirement>, String> {
    let mut parser = Parser { tokens: tokens(text), at: 0 };
    let mut requirements = Vec::new();
    loop {
        match parser.peek() {
            (Token::Identifier | Token::DoesNotExist, _) => {
                requirements.push(parser.requirement().map_err(|why| format!("unable to parse requirement: {why}"))?);
            }
            (Token::End, _) => return Ok(requirements),
            (_, text) => return Err(format!("found '{text}', expected: !, identifier, or 'end of string'")),
        }
        match parser.next() {
            (Token::End, _) => return Ok(requirements),
            (Token::Comma, _) => match parser.peek() {
                (Token::Identifier | Token::DoesNotExist, _) => {}
                (_, text) => return Err(format!("found '{text}', expected: identifier after ','")),
            },
            (_, text) => return Err(format!("found '{text}', expected: ',' or 'end of string'")),
        }
    }
}

impl<'a> Parser<'a> {
    fn raw(&self) -> (Token, &'a str) {
        self.tokens[self.at.min(self.tokens.len() - 1)]
    }
    /// The token to come where `in` and `notin` are names like others.
    fn peek(&self) -> (Token, &'a str) {
        match self.raw() {
            (Token::In | Token::NotIn, text) => (Token::Identifier, text),
            other => other,
        }
    }
    fn next(&mut self) -> (Token, &'a str) {
        let token = self.peek();
        self.at += 1;
        token
    }

    fn requirement(&mut self) -> Result<Requirement, String> {
        let (mut token, mut key) = self.next();
        let negated = token == Token::DoesNotExist;
        if negated {
            (token, key) = self.next();
        }
        if token != Token::Identifier {
            return Err(format!("found '{key}', expected: identifier"));
        }
        let reasons = names::qualified_name(key);
        if !reasons.is_empty() {
            return Err(format!("<nil>: Invalid value: {key:?}: {}", reasons.join("; ")));
        }
        let alone = matches!(self.peek().0, Token::End | Token::Comma);
        let requirement =
            |operator, values: BTreeSet<&str>| Requirement { key: key.to_owned(), operator, values: values.into_iter().map(str::to_owned).collect() };
        if negated || alone {
            return Ok(requirement(if negated { Operator::DoesNotExist } else { Operator::Exists }, BTreeSet::new()));
        }
        let (token, text) = self.raw();
        self.at += 1;
        let (operator, values) = match token {
            Token::In => (Operator::In, self.values()?),
            Token::NotIn => (Operator::NotIn, self.values()?),
            Token::Equals | Token::DoubleEquals => (Operator::In, self.exact()?),
            Token::NotEquals => (Operator::NotIn, self.exact()?),
            Token::GreaterThan => (Operator::GreaterThan, self.exact()?),
            Token::LessThan => (Operator::LessThan, self.exact()?),
            _ => return Err(format!("found '{text}', expected: in, notin, =, ==, !=, gt, lt")),
        };
        check(key, &operator, &values)?;
        Ok(requirement(operator, values))
    }

    fn exact(&mut self) -> Result<BTreeSet<&'a str>, String> {
        if matches!(self.peek().0, Token::End | Token::Comma) {
            return Ok([""].into());
        }
        match self.next() {
            (Token::Identifier, text) => Ok([text].into()),
            (_, text) => Err(format!("found '{text}', expected: identifier")),
        }
    }

    /// `(a, b)`; nothing before or after a comma is the empty value.
    fn values(&mut self) -> Result<BTreeSet<&'a str>, String> {
        match self.next() {
            (Token::Open, _) => {}
            (_, text) => return Err(format!("found '{text}' expected: '('")),
        }
        match self.peek() {
            (Token::Identifier | Token::Comma, _) => {}
            (Token::Close, _) => {
                self.at += 1;
                return Ok([""].into());
            }
            (_, text) => return Err(format!("found '{text}', expected: ',', ')' or identifier")),
        }
        let mut values = BTreeSet::new();
        loop {
            match self.next() {
                (Token::Identifier, text) => {
                    values.insert(text);
                    match self.peek() {
                        (Token::Comma, _) => {}
                        (Token::Close, _) => break,
                        (_, text) => return Err(format!("found '{text}', expected: ',' or ')'")),
                    }
                }
                (Token::Comma, _) => {
                    if values.is_empty() || matches!(self.peek().0, Token::Close | Token::Comma) {
                        values.insert("");
                    }
                    if self.peek().0 == Token::Close {
                        break;
                    }
                }
                (_, text) => return Err(format!("found '{text}', expected: ',', or identifier")),
            }
        }
        self.at += 1;
        Ok(values)
    }
}

fn check(key: &str, operator: &Operator, values: &BTreeSet<&str>) -> Result<(), String> {
    for (index, value) in values.iter().enumerate() {
        if matches!(operator, Operator::GreaterThan | Operator::LessThan) && value.parse::<i64>().is_err() {
            return Err(format!("values[{index}]: Invalid value: {value:?}: for 'Gt', 'Lt' operators, the value must be an integer"));
        }
        let reasons = names::label_value(value);
        if !reasons.is_empty() {
            return Err(format!("values[{index}][{key}]: Invalid value: {value:?}: {}", reasons.join("; ")));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_understood_is_told_in_upstreams_words() {
        for (text, want) in [
            ("a=b=c", "found '=', expected: ',' or 'end of string'"),
            ("a in (b", "unable to parse requirement: found '', expected: ',' or ')'"),
            ("a in b", "unable to parse requirement: found 'b' expected: '('"),
            ("a b", "unable to parse requirement: found 'b', expected: in, notin, =, ==, !=, gt, lt"),
            ("a=(", "unable to parse requirement: found '(', expected: identifier"),
            ("a,", "found '', expected: identifier after ','"),
            (",a", "found ',', expected: !, identifier, or 'end of string'"),
            ("!a=b", "found '=', expected: ',' or 'end of string'"),
            ("a>x", "unable to parse requirement: values[0]: Invalid value: \"x\": for 'Gt', 'Lt' operators, the value must be an integer"),
            ("a in (b,(", "unable to parse requirement: found '(', expected: ',', or identifier"),
        ] {
            assert_eq!(parse(text).unwrap_err(), want, "{text}");
        }
        assert!(parse("-a=b").unwrap_err().starts_with("unable to parse requirement: <nil>: Invalid value: \"-a\": name part must consist of"));
        assert!(parse("a=-").unwrap_err().starts_with("unable to parse requirement: values[0][a]: Invalid value: \"-\": a valid label must be"));
    }

    #[test]
    fn values_may_be_empty_and_names_may_be_keywords() {
        let values = |text: &str| parse(text).unwrap().remove(0).values;
        assert_eq!(values("a in (b, c)"), ["b", "c"]);
        assert_eq!(values("a in (,b)"), ["", "b"]);
        assert_eq!(values("a in (b,,)"), ["", "b"]);
        assert_eq!(values("a in ()"), [""]);
        assert_eq!(values("a="), [""]);
        assert_eq!(values("in=notin"), ["notin"]);
        assert_eq!(parse(" a , !b ,c!=d\n").unwrap().len(), 3);
    }
}
