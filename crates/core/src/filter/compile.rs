//! From SQL text to a compiled condition. What a row filter does not know is refused by name and place.

use std::collections::BTreeSet;
use std::ops::Range;

use sqlparser::ast::{
    BinaryOperator, DataType, Expr, Ident, InTarget, Spanned, TimezoneInfo, UnaryOperator, Value as Sql,
};
use sqlparser::dialect::PostgreSqlDialect;
use sqlparser::keywords::Keyword;
use sqlparser::parser::{Parser, ParserError};
use sqlparser::tokenizer::{Token, TokenWithSpan, Tokenizer};

use super::like::Pattern;
use super::literal::{self, Bound, Comparison, Literal, Written};
use super::{Node, place};
use crate::contract::{Contract, Type};
use crate::problem::{Problem, nearest};

/// The longest text of a condition.
const LENGTH_LIMIT: usize = 64 * 1024;

/// The most AND and OR in a condition: they nest, and must not exhaust the stack.
const CONNECTIVE_LIMIT: usize = 1000;

/// The most words between two of AND, OR, parentheses and commas: the parser recurses into `NOT NOT NOT …`.
const RUN_LIMIT: usize = 10;

/// How deep the parser may recurse; a pair of parentheses takes two.
const NESTING_LIMIT: usize = 24;

const KNOWN: &str =
    "a row filter knows =, <>, <, <=, >, >=, IN, BETWEEN, LIKE, IS NULL, AND, OR, NOT and parentheses";

/// Compiles a condition; returns it with the indexes of its columns, ascending.
pub(super) fn compile(sql: &str, contract: &Contract) -> Result<(Node, Vec<usize>), Vec<Problem>> {
    let expression = parse(sql).map_err(|problem| vec![problem])?;
    let mut compiler = Compiler { sql, contract, problems: Vec::new(), columns: BTreeSet::new() };
    match compiler.condition(&expression) {
        Some(node) if compiler.problems.is_empty() => Ok((node, compiler.columns.into_iter().collect())),
        _ => Err(compiler.problems),
    }
}

fn parse(sql: &str) -> Result<Expr, Problem> {
    if sql.len() > LENGTH_LIMIT {
        return Err(Problem::new(format!(
            "the condition has {} bytes, at most {LENGTH_LIMIT} are read",
            sql.len()
        )));
    }
    let tokens = Tokenizer::new(&PostgreSqlDialect {}, sql)
        .tokenize_with_location()
        .map_err(|e| Problem::new(e.message).at(place::point(sql, e.location)))?;
    refuse_the_boundless(sql, &tokens)?;
    if tokens.iter().all(|t| matches!(t.token, Token::Whitespace(_) | Token::EOF)) {
        return Err(Problem::new("the condition is empty").hint("leave it out to grant every row"));
    }
    let mut parser = Parser::new(&PostgreSqlDialect {})
        .with_recursion_limit(NESTING_LIMIT)
        .with_tokens_with_locations(tokens);
    let expression = parser.parse_expr().map_err(|error| match error {
        ParserError::TokenizerError(message) | ParserError::ParserError(message) => {
            let (message, location) = place::split(&message);
            Problem::new(format!("this is not a condition: {message}"))
                .at(location.and_then(|l| place::point(sql, l)))
        }
        ParserError::RecursionLimitExceeded => Problem::new("the condition is nested too deeply"),
    })?;
    let next = parser.peek_token_ref();
    if next.token != Token::EOF {
        let problem = Problem::new(format!("the condition ends before `{}`", next.token))
            .at(place::range(sql, next.span));
        return Err(problem.hint(KNOWN));
    }
    Ok(expression)
}

/// Refuses what would exhaust the stack of the parser, or of whoever walks its tree.
fn refuse_the_boundless(sql: &str, tokens: &[TokenWithSpan]) -> Result<(), Problem> {
    let (mut connectives, mut run, mut negations) = (0, 0, 0);
    for token in tokens {
        match &token.token {
            Token::Whitespace(_) => continue,
            Token::LParen | Token::RParen | Token::Comma => run = 0,
            Token::Word(word) if matches!(word.keyword, Keyword::AND | Keyword::OR) => {
                run = 0;
                connectives += 1;
            }
            _ => run += 1,
        }
        let negation = matches!(&token.token, Token::Word(word) if word.keyword == Keyword::NOT);
        negations =
            if negation || matches!(token.token, Token::Minus | Token::Plus) { negations + 1 } else { 0 };
        let at = || place::range(sql, token.span);
        if connectives > CONNECTIVE_LIMIT {
            let problem = Problem::new(format!("the condition has more than {CONNECTIVE_LIMIT} AND and OR"));
            return Err(problem.at(at()).hint("use IN (…)"));
        }
        if run > RUN_LIMIT || negations > 2 {
            return Err(Problem::new("this is not a condition: more words in a row than any has")
                .at(at())
                .hint(KNOWN));
        }
    }
    Ok(())
}

struct Compiler<'a> {
    sql: &'a str,
    contract: &'a Contract,
    problems: Vec<Problem>,
    columns: BTreeSet<usize>,
}

/// One side of a comparison.
enum Operand {
    Column(usize),
    Literal(Written),
    Null,
}

impl Compiler<'_> {
    /// Compiles a condition; `None` after it has told the problem.
    fn condition(&mut self, expr: &Expr) -> Option<Node> {
        match expr {
            Expr::Nested(inner) => self.condition(inner),
            Expr::BinaryOp { op: BinaryOperator::And, .. } => {
                Some(Node::And(self.chain(expr, &BinaryOperator::And)?))
            }
            Expr::BinaryOp { op: BinaryOperator::Or, .. } => {
                Some(Node::Or(self.chain(expr, &BinaryOperator::Or)?))
            }
            Expr::UnaryOp { op: UnaryOperator::Not, expr } => {
                Some(Node::Not(Box::new(self.condition(expr)?)))
            }
            Expr::BinaryOp { left, op, right } => match comparison(op) {
                Some(comparison) => self.comparison(expr, left, comparison, right),
                None => self.refuse(expr, format!("the operator `{op}`")),
            },
            Expr::IsNull(inner) => Some(Node::IsNull { column: self.column_only(inner)? }),
            Expr::IsNotNull(inner) => {
                Some(Node::Not(Box::new(Node::IsNull { column: self.column_only(inner)? })))
            }
            Expr::In { expr: inner, target: InTarget::List(items), negated, global: false } => {
                let node = self.list(inner, items);
                Some(negate(node?, *negated))
            }
            Expr::Between { expr: inner, negated, low, high } => {
                let low = self.comparison(expr, inner, Comparison::GreaterOrEqual, low);
                let high = self.comparison(expr, inner, Comparison::LessOrEqual, high);
                Some(negate(Node::And(vec![low?, high?]), *negated))
            }
            Expr::Like { negated, any: false, expr: inner, pattern, escape_char } => {
                let node = self.like(inner, pattern, escape_char.as_deref());
                Some(negate(node?, *negated))
            }
            Expr::Identifier(ident) => {
                let column = self.column(ident)?;
                let field = &self.contract.fields[column];
                let hint = match field.ty {
                    Type::Boolean => format!("write {ident} = TRUE"),
                    _ => "compare it with a literal".into(),
                };
                self.tell(expr, format!("the column `{ident}` alone is no condition"), Some(hint))
            }
            Expr::Value(value) => self.tell(
                expr,
                format!("{} alone is no condition", value.value),
                Some("leave the condition out to grant every row".into()),
            ),
            other => self.refuse(other, name(other)),
        }
    }

    /// Takes apart `a AND b AND c`, which the parser nests to the left.
    fn chain(&mut self, expr: &Expr, operator: &BinaryOperator) -> Option<Vec<Node>> {
        let (mut rest, mut sides) = (expr, Vec::new());
        while let Expr::BinaryOp { left, op, right } = rest
            && op == operator
        {
            sides.push(right.as_ref());
            rest = left;
        }
        sides.push(rest);
        let nodes: Vec<Option<Node>> = sides.into_iter().rev().map(|side| self.condition(side)).collect();
        nodes.into_iter().collect()
    }

    fn comparison(
        &mut self,
        whole: &Expr,
        left: &Expr,
        comparison: Comparison,
        right: &Expr,
    ) -> Option<Node> {
        let (a, b) = (self.operand(left), self.operand(right));
        let (column, comparison, written, at) = match (a?, b?) {
            (Operand::Column(column), Operand::Literal(written)) => (column, comparison, written, right),
            (Operand::Literal(written), Operand::Column(column)) => {
                (column, comparison.flipped(), written, left)
            }
            (Operand::Column(_), Operand::Column(_)) => {
                let hint = "compare each with a literal".to_owned();
                return self.tell(
                    whole,
                    "a row filter does not compare columns with each other".into(),
                    Some(hint),
                );
            }
            (_, Operand::Null) | (Operand::Null, _) => {
                let hint = "write IS NULL or IS NOT NULL".to_owned();
                return self.tell(whole, "a comparison with NULL is never true".into(), Some(hint));
            }
            (Operand::Literal(_), Operand::Literal(_)) => {
                return self.tell(
                    whole,
                    "this compares no column".into(),
                    Some("compare a column with a literal".into()),
                );
            }
        };
        match self.bind(column, comparison, &written, at)? {
            Bound::Compare(comparison, literal) => Some(Node::Compare { column, comparison, literal }),
            Bound::Always(truth) => Some(Node::Always { column, truth }),
        }
    }

    fn list(&mut self, expr: &Expr, items: &[Expr]) -> Option<Node> {
        let column = self.column_only(expr)?;
        let mut literals: Vec<Literal> = Vec::with_capacity(items.len());
        let mut whole = true;
        for item in items {
            let literal = match self.operand(item) {
                Some(Operand::Literal(written)) => self.bind(column, Comparison::Equal, &written, item),
                Some(Operand::Column(_)) => self.tell(item, "IN lists literals, not columns".into(), None),
                Some(Operand::Null) => self.tell(
                    item,
                    "NULL in a list makes NOT IN never true".into(),
                    Some("add OR … IS NULL".into()),
                ),
                None => None,
            };
            match literal {
                Some(Bound::Compare(_, literal)) => literals.push(literal),
                Some(Bound::Always(_)) => {}
                None => whole = false,
            }
        }
        literals.sort_by(Literal::cmp);
        literals.dedup();
        match literals.is_empty() {
            _ if !whole => None,
            true => Some(Node::Always { column, truth: false }),
            false => Some(Node::In { column, items: literals }),
        }
    }

    fn like(&mut self, expr: &Expr, pattern: &Expr, escape: Option<&Expr>) -> Option<Node> {
        let column = self.column_only(expr);
        let Operand::Literal(Written::Text(text)) = self.operand(pattern)? else {
            return self.tell(
                pattern,
                "the pattern of LIKE is not a text".into(),
                Some("write LIKE '99%'".into()),
            );
        };
        let escape = match escape.map(|e| (e, self.operand(e))) {
            None => None,
            Some((at, Some(Operand::Literal(Written::Text(text))))) => {
                let mut chars = text.chars();
                match (chars.next(), chars.next()) {
                    (Some(c), None) if !matches!(c, '%' | '_') => Some(c),
                    _ => {
                        return self.tell(
                            at,
                            "ESCAPE is not one character".into(),
                            Some("write ESCAPE '!'".into()),
                        );
                    }
                }
            }
            Some((at, _)) => {
                return self.tell(at, "ESCAPE is not a text".into(), Some("write ESCAPE '!'".into()));
            }
        };
        let column = column?;
        let field = &self.contract.fields[column];
        if !matches!(field.ty, Type::Text { .. }) {
            let message = format!(
                "column `{}` is {}, and LIKE compares texts",
                field.name,
                literal::article(&field.ty)
            );
            return self.tell(expr, message, None);
        }
        match Pattern::compile(&text, escape) {
            Ok(pattern) => Some(Node::Like { column, pattern }),
            Err(why) => {
                self.tell(pattern, why.into(), Some("say which character escapes: ESCAPE '!'".into()))
            }
        }
    }

    fn bind(&mut self, column: usize, comparison: Comparison, written: &Written, at: &Expr) -> Option<Bound> {
        let field = &self.contract.fields[column];
        match literal::bind(&field.name, &field.ty, comparison, written) {
            Ok(bound) => Some(bound),
            Err((message, hint)) => self.tell(at, message, hint),
        }
    }

    fn operand(&mut self, expr: &Expr) -> Option<Operand> {
        let text = |value: &Sql| match value {
            Sql::SingleQuotedString(text) => Some(text.clone()),
            _ => None,
        };
        let literal = match expr {
            Expr::Nested(inner) => return self.operand(inner),
            Expr::Identifier(ident) => return self.column(ident).map(Operand::Column),
            Expr::Value(value) => match &value.value {
                Sql::Null => return Some(Operand::Null),
                Sql::Boolean(truth) => Some(Written::Boolean(*truth)),
                Sql::Number(number, _) => Some(Written::Number(number.clone())),
                value => text(value).map(Written::Text),
            },
            Expr::UnaryOp { op: sign @ (UnaryOperator::Minus | UnaryOperator::Plus), expr: inner } => {
                match inner.as_ref() {
                    Expr::Value(value) => match (&value.value, sign) {
                        (Sql::Number(number, _), UnaryOperator::Minus) => {
                            Some(Written::Number(format!("-{number}")))
                        }
                        (Sql::Number(number, _), _) => Some(Written::Number(number.clone())),
                        _ => None,
                    },
                    _ => None,
                }
            }
            Expr::TypedString(typed) => text(&typed.value.value).and_then(|text| match &typed.data_type {
                DataType::Date => Some(Written::Date(text)),
                DataType::Time(None, TimezoneInfo::None | TimezoneInfo::WithoutTimeZone) => {
                    Some(Written::Time(text))
                }
                DataType::Timestamp(None, TimezoneInfo::None | TimezoneInfo::WithoutTimeZone) => {
                    Some(Written::Timestamp(text))
                }
                DataType::Timestamp(None, _) => Some(Written::TimestampTz(text)),
                _ => None,
            }),
            _ => None,
        };
        match literal {
            Some(literal) => Some(Operand::Literal(literal)),
            None => self.refuse(expr, name(expr)),
        }
    }

    fn column_only(&mut self, expr: &Expr) -> Option<usize> {
        match self.operand(expr)? {
            Operand::Column(column) => Some(column),
            _ => self.tell(expr, "there must be a column here".into(), None),
        }
    }

    /// Finds a column by its wire name or its name in the table; without quotes, letter case does not matter
    /// when it leaves no doubt.
    fn column(&mut self, ident: &Ident) -> Option<usize> {
        let fields = &self.contract.fields;
        let find = |same: &dyn Fn(&str) -> bool| -> Vec<usize> {
            (0..fields.len()).filter(|i| same(&fields[*i].name) || same(fields[*i].column())).collect()
        };
        let mut found = find(&|name| name == ident.value);
        if found.is_empty() && ident.quote_style.is_none() {
            found = find(&|name| name.eq_ignore_ascii_case(&ident.value));
        }
        let span = place::range(self.sql, ident.span);
        match found[..] {
            [column] => {
                self.columns.insert(column);
                Some(column)
            }
            [] => {
                let names = fields.iter().flat_map(|f| [f.name.as_str(), f.column()]);
                let hint = nearest(&ident.value, names).map(|near| format!("did you mean `{near}`?"));
                let message = format!("there is no column `{}` in `{}`", ident.value, self.contract.stream);
                self.problems.push(Problem { message, span, hint });
                None
            }
            _ => {
                let message =
                    format!("`{}` names more than one column of `{}`", ident.value, self.contract.stream);
                self.problems.push(Problem {
                    message,
                    span,
                    hint: Some("use the wire name that is no other column's name".into()),
                });
                None
            }
        }
    }

    fn refuse<T>(&mut self, at: &Expr, what: String) -> Option<T> {
        let hint = match at {
            Expr::Function(_) => {
                "a replica may not depend on when or where it was filtered: write the value itself"
            }
            _ => KNOWN,
        };
        self.tell(at, format!("{what} is not allowed in a row filter"), Some(hint.into()))
    }

    fn tell<T>(&mut self, at: &Expr, message: String, hint: Option<String>) -> Option<T> {
        let span: Option<Range<usize>> = place::range(self.sql, at.span());
        self.problems.push(Problem { message, span, hint });
        None
    }
}

fn negate(node: Node, negated: bool) -> Node {
    if negated { Node::Not(Box::new(node)) } else { node }
}

fn comparison(operator: &BinaryOperator) -> Option<Comparison> {
    Some(match operator {
        BinaryOperator::Eq => Comparison::Equal,
        BinaryOperator::NotEq => Comparison::NotEqual,
        BinaryOperator::Lt => Comparison::Less,
        BinaryOperator::LtEq => Comparison::LessOrEqual,
        BinaryOperator::Gt => Comparison::Greater,
        BinaryOperator::GtEq => Comparison::GreaterOrEqual,
        _ => return None,
    })
}

/// Names what is refused.
fn name(expr: &Expr) -> String {
    match expr {
        Expr::Function(function) => format!("the function `{}`", function.name),
        Expr::Subquery(_) | Expr::Exists { .. } | Expr::In { target: InTarget::Subquery(_), .. } => {
            "a subquery".into()
        }
        Expr::BinaryOp { op, .. } => format!("the operator `{op}`"),
        Expr::UnaryOp { op, .. } => format!("the operator `{op}`"),
        Expr::ILike { .. } => "ILIKE".into(),
        Expr::SimilarTo { .. } => "SIMILAR TO".into(),
        Expr::Cast { .. } => "a cast".into(),
        Expr::Case { .. } => "CASE".into(),
        Expr::CompoundIdentifier(_) => "a name with a point (write the column alone)".into(),
        Expr::IsTrue(_) | Expr::IsNotTrue(_) | Expr::IsFalse(_) | Expr::IsNotFalse(_) => {
            "IS TRUE or IS FALSE (write = TRUE)".into()
        }
        Expr::Extract { .. } => "EXTRACT".into(),
        Expr::Interval(_) => "an interval".into(),
        Expr::Collate { .. } => "COLLATE (text compares bytewise)".into(),
        other => format!("`{other}`"),
    }
}
