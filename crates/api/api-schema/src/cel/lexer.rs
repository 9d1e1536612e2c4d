//! Lexer: the tokens of a CEL expression.
use super::issue::Issue;

#[derive(Clone, Debug, PartialEq)]
pub(super) enum Token {
    Identifier(String),
    /// `` `a.b` ``: a field whose name is no identifier.
    Quoted(String),
    Int(String),
    Uint(String),
    Double(f64),
    String(String),
    Bytes(Vec<u8>),
    /// Punctuation, operators, and the words `in`, `true`, `false`, `null`.
    Symbol(&'static str),
    End,
}

/// A token and the character it starts at.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Spanned {
    pub at: usize,
    pub token: Token,
}

const SYMBOLS: [&str; 25] = ["==", "!=", "<=", ">=", "&&", "||", "<", ">", "+", "-", "*", "/", "%", "!", "?", ":", ".", ",", "(", ")", "[", "]", "{", "}", "="];
const WORDS: [&str; 4] = ["in", "true", "false", "null"];

impl Token {
    /// As a syntax error shows it.
    pub fn shown(&self, source: &[char], at: usize) -> String {
        match self {
            Self::End => "<EOF>".into(),
            Self::Identifier(name) => name.clone(),
            Self::Symbol(symbol) => (*symbol).to_owned(),
            _ => {
                let rest: String = source[at..].iter().take_while(|c| !c.is_whitespace() && !matches!(c, ')' | ']' | '}' | ',')).collect();
                rest
            }
        }
    }
}

pub(super) fn tokens(source: &[char]) -> Result<Vec<Spanned>, Issue> {
    let mut lexer = Lexer { source, at: 0 };
    let mut all = Vec::new();
    loop {
        lexer.skip_blank();
        let at = lexer.at;
        let token = lexer.next()?;
        let end = token == Token::End;
        all.push(Spanned { at, token });
        if end {
            return Ok(all);
        }
    }
}

struct Lexer<'s> {
    source: &'s [char],
    at: usize,
}

impl Lexer<'_> {
    fn peek(&self, ahead: usize) -> char {
        self.source.get(self.at + ahead).copied().unwrap_or('\0')
    }
    fn ended(&self) -> bool {
        self.at >= self.source.len()
    }

    fn skip_blank(&mut self) {
        loop {
            if !self.ended() && self.peek(0).is_ascii_whitespace() {
                self.at += 1;
            } else if self.peek(0) == '/' && self.peek(1) == '/' {
                while !self.ended() && self.peek(0) != '\n' {
                    self.at += 1;
                }
            } else {
                return;
            }
        }
    }

    fn next(&mut self) -> Result<Token, Issue> {
        if self.ended() {
            return Ok(Token::End);
        }
        let first = self.peek(0);
        if let Some(token) = self.text()? {
            return Ok(token);
        }
        if first.is_ascii_digit() || (first == '.' && self.peek(1).is_ascii_digit()) {
            return self.number();
        }
        if first == '_' || first.is_ascii_alphabetic() {
            let start = self.at;
            while self.peek(0) == '_' || self.peek(0).is_ascii_alphanumeric() {
                self.at += 1;
            }
            let name: String = self.source[start..self.at].iter().collect();
            return Ok(WORDS.iter().find(|word| **word == name).map_or(Token::Identifier(name), |word| Token::Symbol(word)));
        }
        if first == '`' {
            let start = self.at + 1;
            let length = self.source[start..].iter().position(|c| *c == '`').ok_or_else(|| self.unknown())?;
            self.at = start + length + 1;
            return Ok(Token::Quoted(self.source[start..start + length].iter().collect()));
        }
        for symbol in SYMBOLS {
            if symbol.chars().enumerate().all(|(i, c)| self.peek(i) == c) {
                self.at += symbol.len();
                return Ok(Token::Symbol(symbol));
            }
        }
        Err(self.unknown())
    }

    fn unknown(&self) -> Issue {
        let shown: String = self.source[self.at..].iter().take(1).collect();
        Issue::new(self.at, format!("Syntax error: token recognition error at: '{shown}'"))
    }

    fn number(&mut self) -> Result<Token, Issue> {
        let start = self.at;
        if self.peek(0) == '0' && matches!(self.peek(1), 'x' | 'X') {
            self.at += 2;
            while self.peek(0).is_ascii_hexdigit() {
                self.at += 1;
            }
            return Ok(self.integer(start));
        }
        let digits = |lexer: &mut Self| {
            while lexer.peek(0).is_ascii_digit() {
                lexer.at += 1;
            }
        };
        digits(self);
        let mut real = false;
        if self.peek(0) == '.' && self.peek(1).is_ascii_digit() {
            real = true;
            self.at += 1;
            digits(self);
        }
        let sign = usize::from(matches!(self.peek(1), '+' | '-'));
        if matches!(self.peek(0), 'e' | 'E') && self.peek(1 + sign).is_ascii_digit() {
            real = true;
            self.at += 1 + sign;
            digits(self);
        }
        if !real {
            return Ok(self.integer(start));
        }
        let text: String = self.source[start..self.at].iter().collect();
        text.parse().map(Token::Double).map_err(|_| Issue::new(start, "invalid double literal"))
    }

    fn integer(&mut self, start: usize) -> Token {
        let text: String = self.source[start..self.at].iter().collect();
        if matches!(self.peek(0), 'u' | 'U') {
            self.at += 1;
            return Token::Uint(text);
        }
        Token::Int(text)
    }

    /// A string or bytes, if one starts here.
    fn text(&mut self) -> Result<Option<Token>, Issue> {
        let (mut raw, mut bytes, mut ahead) = (false, false, 0);
        while ahead < 2 {
            match self.peek(ahead) {
                'r' | 'R' if !raw => raw = true,
                'b' | 'B' if !bytes => bytes = true,
                _ => break,
            }
            ahead += 1;
        }
        let quote = self.peek(ahead);
        if !matches!(quote, '"' | '\'') {
            return Ok(None);
        }
        let start = self.at;
        self.at += ahead;
        let triple = self.peek(1) == quote && self.peek(2) == quote;
        self.at += if triple { 3 } else { 1 };
        let mut out = Vec::new();
        loop {
            let unterminated = || Issue::new(start, "Syntax error: token recognition error at: unterminated string");
            if self.ended() {
                return Err(unterminated());
            }
            let c = self.peek(0);
            if c == quote && (!triple || (self.peek(1) == quote && self.peek(2) == quote)) {
                self.at += if triple { 3 } else { 1 };
                break;
            }
            if !triple && matches!(c, '\n' | '\r') {
                return Err(unterminated());
            }
            if c == '\\' && !raw {
                self.at += 1;
                self.escape(bytes, &mut out)?;
                continue;
            }
            self.at += 1;
            push(&mut out, c);
        }
        if bytes {
            return Ok(Some(Token::Bytes(out)));
        }
        String::from_utf8(out).map(|text| Some(Token::String(text))).map_err(|_| Issue::new(start, "invalid string literal"))
    }

    fn escape(&mut self, bytes: bool, out: &mut Vec<u8>) -> Result<(), Issue> {
        let at = self.at;
        let bad = || Issue::new(at, "Syntax error: invalid escape sequence");
        let kind = self.peek(0);
        self.at += 1;
        let plain = match kind {
            'a' => '\x07',
            'b' => '\x08',
            'f' => '\x0c',
            'n' => '\n',
            'r' => '\r',
            't' => '\t',
            'v' => '\x0b',
            '\\' | '\'' | '"' | '`' | '?' => kind,
            _ => {
                let (length, radix) = match kind {
                    'x' | 'X' => (2, 16),
                    'u' if !bytes => (4, 16),
                    'U' if !bytes => (8, 16),
                    '0'..='3' => {
                        self.at -= 1;
                        (3, 8)
                    }
                    _ => return Err(bad()),
                };
                let digits: String = self.source[self.at.min(self.source.len())..].iter().take(length).collect();
                let code = u32::from_str_radix(&digits, radix).ok().filter(|_| digits.len() == length).ok_or_else(bad)?;
                self.at += length;
                if bytes {
                    out.push(u8::try_from(code).map_err(|_| bad())?);
                    return Ok(());
                }
                char::from_u32(code).ok_or_else(bad)?
            }
        };
        push(out, plain);
        Ok(())
    }
}

fn push(out: &mut Vec<u8>, c: char) {
    out.extend_from_slice(c.encode_utf8(&mut [0; 4]).as_bytes());
}
