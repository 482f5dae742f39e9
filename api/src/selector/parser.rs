//! Reads a label selector the way upstream's parser does, and complains in its words.

use std::collections::BTreeSet;

use super::lexer::{Lexer, Token};
use super::{Operator, Requirement, SelectorError, check_key};

/// The requirements of a query, in its order.
pub(super) fn parse(query: &str) -> Result<Vec<Requirement>, SelectorError> {
    Parser { lexer: Lexer::new(query) }.requirements()
}

struct Parser<'a> {
    lexer: Lexer<'a>,
}

impl Parser<'_> {
    fn requirements(mut self) -> Result<Vec<Requirement>, SelectorError> {
        let syntax =
            |found: &str, expected: &str| Err(SelectorError::Syntax(format!("found '{found}', expected: {expected}")));
        let mut requirements = Vec::new();
        loop {
            match self.lexer.peek() {
                (Token::Word | Token::In | Token::NotIn | Token::Not, _) => {}
                (Token::End, _) => return Ok(requirements),
                (_, found) => return syntax(found, "!, identifier, or 'end of string'"),
            }
            requirements.push(self.requirement()?);
            match self.lexer.next() {
                (Token::End, _) => return Ok(requirements),
                (Token::Comma, _) => match self.lexer.peek() {
                    (Token::Word | Token::In | Token::NotIn | Token::Not, _) => {}
                    (_, found) => return syntax(found, "identifier after ','"),
                },
                (_, found) => return syntax(found, "',' or 'end of string'"),
            }
        }
    }

    fn requirement(&mut self) -> Result<Requirement, SelectorError> {
        let absent = self.lexer.peek().0 == Token::Not;
        if absent {
            self.lexer.next();
        }
        let key = match self.lexer.next() {
            (Token::Word | Token::In | Token::NotIn, key) => key,
            (_, found) => return expected(found, ", expected: identifier"),
        };
        check_key(key)?;
        if absent {
            return Requirement::new(key, Operator::DoesNotExist, BTreeSet::new());
        }
        if matches!(self.lexer.peek().0, Token::End | Token::Comma) {
            return Requirement::new(key, Operator::Exists, BTreeSet::new());
        }
        let operator = match self.lexer.next() {
            (Token::In, _) => Operator::In,
            (Token::NotIn, _) => Operator::NotIn,
            (Token::Equals, _) => Operator::Equals,
            (Token::DoubleEquals, _) => Operator::DoubleEquals,
            (Token::NotEquals, _) => Operator::NotEquals,
            (Token::Greater, _) => Operator::GreaterThan,
            (Token::Less, _) => Operator::LessThan,
            (_, found) => return expected(found, ", expected: in, notin, =, ==, !=, gt, lt"),
        };
        let values = match operator {
            Operator::In | Operator::NotIn => self.value_list()?,
            _ => self.single_value()?,
        };
        Requirement::new(key, operator, values)
    }

    fn single_value(&mut self) -> Result<BTreeSet<String>, SelectorError> {
        match self.lexer.peek() {
            (Token::End | Token::Comma, _) => Ok(BTreeSet::from([String::new()])),
            (Token::Word | Token::In | Token::NotIn, value) => {
                self.lexer.next();
                Ok(BTreeSet::from([value.to_owned()]))
            }
            (_, found) => expected(found, ", expected: identifier"),
        }
    }

    /// `(a,b)`; nothing between two separators is the empty value.
    fn value_list(&mut self) -> Result<BTreeSet<String>, SelectorError> {
        match self.lexer.next() {
            (Token::Open, _) => {}
            (_, found) => return expected(found, " expected: '('"),
        }
        match self.lexer.peek() {
            (Token::Word | Token::In | Token::NotIn | Token::Comma | Token::Close, _) => {}
            (_, found) => return expected(found, ", expected: ',', ')' or identifier"),
        }
        let mut values = BTreeSet::new();
        loop {
            let value = match self.lexer.peek() {
                (Token::Word | Token::In | Token::NotIn, value) => {
                    self.lexer.next();
                    value
                }
                (Token::Comma | Token::Close, _) => "",
                (_, found) => return expected(found, ", expected: ',', or identifier"),
            };
            values.insert(value.to_owned());
            match self.lexer.next() {
                (Token::Comma, _) => {}
                (Token::Close, _) => return Ok(values),
                (_, found) => return expected(found, ", expected: ',' or ')'"),
            }
        }
    }
}

fn expected<T>(found: &str, rest: &str) -> Result<T, SelectorError> {
    Err(SelectorError::Requirement(format!("found '{found}'{rest}")))
}
