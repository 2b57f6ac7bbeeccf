//! The parser of the CQL subset.

use super::{Change, Column, Definition, Kind};

/// The line of a fault, from 1, and what is wrong there.
type Fault = (usize, String);

/// Reads one statement; returns it with its text in one spelling.
pub(super) fn parse(cql: &str) -> Result<(Change, String), Fault> {
    let tokens = tokens(cql)?;
    let text = tokens
        .iter()
        .map(|token| token.text.as_str())
        .collect::<Vec<_>>()
        .join(" ");
    let mut parser = Parser { tokens, at: 0 };
    let change = parser.statement()?;
    Ok((change, text))
}

#[derive(Debug)]
struct Token {
    text: String,
    line: usize,
}

/// Splits into words (in lower case, as CQL reads them) and marks; comments and the closing semicolon are left out.
fn tokens(cql: &str) -> Result<Vec<Token>, Fault> {
    let mut tokens = Vec::new();
    let mut line = 1;
    let mut rest = cql;
    while let Some(first) = rest.chars().next() {
        if rest.starts_with("--") || rest.starts_with("//") {
            rest = rest.find('\n').map_or("", |end| &rest[end..]);
        } else if rest.starts_with("/*") {
            let end = rest
                .find("*/")
                .ok_or_else(|| (line, "a comment without end".to_owned()))?;
            line += rest[..end].matches('\n').count();
            rest = &rest[end + 2..];
        } else if first.is_whitespace() {
            line += usize::from(first == '\n');
            rest = &rest[first.len_utf8()..];
        } else if first.is_ascii_alphabetic() {
            let end = rest
                .find(|c: char| !c.is_ascii_alphanumeric() && c != '_')
                .unwrap_or(rest.len());
            tokens.push(Token {
                text: rest[..end].to_ascii_lowercase(),
                line,
            });
            rest = &rest[end..];
        } else if "(),;".contains(first) {
            tokens.push(Token {
                text: first.to_string(),
                line,
            });
            rest = &rest[1..];
        } else {
            return Err((
                line,
                format!("{first:?} is not of the subset of CQL that both engines understand"),
            ));
        }
    }
    if tokens.last().is_some_and(|token| token.text == ";") {
        tokens.pop();
    }
    Ok(tokens)
}

struct Parser {
    tokens: Vec<Token>,
    at: usize,
}

impl Parser {
    fn peek(&self) -> Option<&str> {
        self.tokens.get(self.at).map(|token| token.text.as_str())
    }

    fn line(&self) -> usize {
        self.tokens
            .get(self.at)
            .or_else(|| self.tokens.last())
            .map_or(1, |token| token.line)
    }

    fn fault<T>(&self, expected: &str) -> Result<T, Fault> {
        let found = self.peek().unwrap_or("the end");
        Err((self.line(), format!("expected {expected}, found {found}")))
    }

    fn accept(&mut self, text: &str) -> bool {
        let found = self.peek() == Some(text);
        self.at += usize::from(found);
        found
    }

    fn expect(&mut self, text: &str) -> Result<(), Fault> {
        if self.accept(text) {
            Ok(())
        } else {
            self.fault(&text.to_ascii_uppercase())
        }
    }

    fn phrase(&mut self, words: &str) -> Result<(), Fault> {
        words.split(' ').try_for_each(|word| self.expect(word))
    }

    fn name(&mut self, what: &str) -> Result<String, Fault> {
        match self.peek() {
            Some(text) if text.starts_with(|c: char| c.is_ascii_alphabetic()) && text.len() <= 48 => {
                let text = text.to_owned();
                self.at += 1;
                Ok(text)
            }
            _ => self.fault(what),
        }
    }

    fn table(&mut self) -> Result<String, Fault> {
        let line = self.line();
        let name = self.name("a table's name")?;
        if name == "schema_migrations" || name.starts_with("sqlite_") {
            return Err((line, format!("the name {name} is taken")));
        }
        Ok(name)
    }

    fn column(&mut self) -> Result<Column, Fault> {
        let name = self.name("a column's name")?;
        let kind = match self.peek() {
            Some("text") => Kind::Text,
            Some("int") => Kind::Int,
            Some("bigint") => Kind::BigInt,
            Some("double") => Kind::Double,
            Some("boolean") => Kind::Boolean,
            Some("blob") => Kind::Blob,
            Some("timestamp") => Kind::Timestamp,
            _ => return self.fault("one of text, int, bigint, double, boolean, blob, timestamp"),
        };
        self.at += 1;
        Ok(Column { name, kind })
    }

    fn statement(&mut self) -> Result<Change, Fault> {
        let change = match self.peek() {
            Some("create") => Change::Create(self.create()?),
            Some("alter") => {
                self.phrase("alter table")?;
                let table = self.table()?;
                self.expect("add")?;
                Change::Add {
                    table,
                    column: self.column()?,
                }
            }
            _ => return self.fault("CREATE TABLE IF NOT EXISTS or ALTER TABLE … ADD"),
        };
        match self.peek() {
            None => Ok(change),
            Some(_) => self.fault("the end: one statement per migration"),
        }
    }

    fn create(&mut self) -> Result<Definition, Fault> {
        self.phrase("create table if not exists")?;
        let name = self.table()?;
        self.expect("(")?;
        let mut columns = Vec::<Column>::new();
        while self.peek() != Some("primary") {
            let line = self.line();
            let column = self.column()?;
            if columns.iter().any(|known| known.name == column.name) {
                return Err((line, format!("column {} is there already", column.name)));
            }
            columns.push(column);
            if !self.accept(",") {
                return self.fault("a comma, then further columns or PRIMARY KEY");
            }
        }
        let line = self.line();
        let (partition, clustering) = self.primary_key()?;
        self.expect(")")?;
        let descending = if self.peek() == Some("with") {
            self.order(&clustering)?
        } else {
            false
        };
        let mut key = Vec::new();
        for name in partition.iter().chain(&clustering) {
            match columns.iter().position(|column| column.name == *name) {
                Some(at) => key.push(columns.remove(at)),
                None => {
                    return Err((
                        line,
                        format!("PRIMARY KEY names {name}, which is no column or named twice"),
                    ));
                }
            }
        }
        key.append(&mut columns);
        Ok(Definition {
            name,
            columns: key,
            partition_columns: partition.len(),
            clustering_columns: clustering.len(),
            descending,
        })
    }

    fn primary_key(&mut self) -> Result<(Vec<String>, Vec<String>), Fault> {
        self.phrase("primary key (")?;
        let mut partition = Vec::new();
        if self.accept("(") {
            partition.push(self.name("a column of the partition key")?);
            while self.accept(",") {
                partition.push(self.name("a column of the partition key")?);
            }
            self.expect(")")?;
        } else {
            partition.push(self.name("the partition key")?);
        }
        let mut clustering = Vec::new();
        while self.accept(",") {
            clustering.push(self.name("a column of the clustering key")?);
        }
        self.expect(")")?;
        Ok((partition, clustering))
    }

    /// `WITH CLUSTERING ORDER BY (a DESC, b DESC)`: whether it runs from the largest down.
    fn order(&mut self, clustering: &[String]) -> Result<bool, Fault> {
        self.phrase("with clustering order by (")?;
        let mut directions = Vec::new();
        for (at, column) in clustering.iter().enumerate() {
            if at > 0 {
                self.expect(",")?;
            }
            self.expect(column)?;
            directions.push(
                self.accept("desc") || {
                    self.accept("asc");
                    false
                },
            );
        }
        self.expect(")")?;
        match directions.as_slice() {
            [] => Err((self.line(), "there is no clustering key to order by".to_owned())),
            [first, rest @ ..] if rest.iter().all(|direction| direction == first) => Ok(*first),
            _ => Err((
                self.line(),
                "all clustering columns must run in the same direction".to_owned(),
            )),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fault(cql: &str) -> String {
        let (line, problem) = parse(cql).unwrap_err();
        format!("{line}: {problem}")
    }

    #[test]
    fn a_table_with_everything_is_read() {
        let cql = "-- a\nCREATE TABLE IF NOT EXISTS t (\n v blob, -- b\n b int, a text, c timestamp,\n\
                   PRIMARY KEY ((a, b), c)) WITH CLUSTERING ORDER BY (c DESC);";
        let (Change::Create(table), _) = parse(cql).unwrap() else {
            panic!("not a table")
        };
        let names = table
            .columns
            .iter()
            .map(|column| column.name.as_str())
            .collect::<Vec<_>>();
        assert_eq!(names, ["a", "b", "c", "v"]);
        assert_eq!(
            (
                table.partition_columns,
                table.clustering_columns,
                table.descending
            ),
            (2, 1, true)
        );
    }

    #[test]
    fn a_fault_names_its_line_and_what_was_expected() {
        assert_eq!(fault("CREATE TABLE t (a int)"), "1: expected IF, found t");
        assert_eq!(
            fault("CREATE TABLE IF NOT EXISTS t (\n a uuid, PRIMARY KEY ((a)))"),
            "2: expected one of text, int, bigint, double, boolean, blob, timestamp, found uuid"
        );
        assert!(
            fault("CREATE TABLE IF NOT EXISTS t (a int,\nPRIMARY KEY ((b)))")
                .starts_with("2: PRIMARY KEY names b")
        );
        assert!(fault("DROP TABLE t").contains("expected CREATE TABLE"));
        assert!(
            fault("ALTER TABLE t ADD a int; ALTER TABLE t ADD b int").contains("one statement per migration")
        );
        assert!(
            fault("CREATE TABLE IF NOT EXISTS schema_migrations (a int, PRIMARY KEY (a))").contains("taken")
        );
        assert!(fault("/* open").contains("without end"));
        assert!(fault("ALTER TABLE t ADD \"Quoted\" int").contains("not of the subset"));
    }

    #[test]
    fn mixed_directions_are_refused() {
        let cql = "CREATE TABLE IF NOT EXISTS t (a int, b int, c int, PRIMARY KEY ((a), b, c)) \
                   WITH CLUSTERING ORDER BY (b DESC, c ASC)";
        assert!(fault(cql).contains("same direction"));
    }
}
