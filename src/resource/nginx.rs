//! nginx configuration: enough of a reader to find mistakes of form, and to follow requests.
//!
//! It splits text into words exactly as nginx does, and accepts whatever nginx could accept: a false alarm would be
//! worse than a mistake left for `nginx -t` to find on the host.

/// One directive, possibly with a block.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Directive {
    /// Its name.
    pub name: String,
    /// Its arguments, without quotes.
    pub args: Vec<String>,
    /// What is between its braces.
    pub block: Option<Vec<Directive>>,
    /// Where it begins, in bytes.
    pub offset: usize,
    /// How long its name is, in bytes.
    pub len: usize,
}

/// A mistake of form.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mistake {
    /// What is wrong.
    pub message: String,
    /// Where, in bytes.
    pub offset: usize,
    /// How long the place is, in bytes.
    pub len: usize,
}

/// Blocks in which every line begins with the name of a directive. In others (`map`, `types`) anything may stand.
const STRICT: [&str; 11] =
    ["", "http", "events", "server", "location", "upstream", "if", "limit_except", "stream", "mail", "rtmp"];

/// How deep blocks may nest. nginx itself needs five.
const DEPTH: usize = 40;

/// A word or a sign, and where it begins.
#[derive(Debug, PartialEq, Eq)]
enum Token {
    Word { text: String, quoted: bool },
    Semicolon,
    Open,
    Close,
}

/// Reads a configuration, or says what is wrong with its form.
pub fn parse(text: &str) -> Result<Vec<Directive>, Mistake> {
    let mut reader = Reader { text, position: 0, depth: 0 };
    let directives = reader.directives(None)?;
    Ok(directives)
}

struct Reader<'a> {
    text: &'a str,
    position: usize,
    depth: usize,
}

/// A directive whose end has not been seen yet.
struct Open {
    words: Vec<String>,
    offset: usize,
    len: usize,
    quoted: bool,
}

impl Reader<'_> {
    /// The directives up to the end of the block that `inside` has opened, or of the text.
    fn directives(&mut self, inside: Option<&Open>) -> Result<Vec<Directive>, Mistake> {
        let mut all = Vec::new();
        let context = inside.map_or("", |open| open.words[0].as_str());
        let mut open: Option<Open> = None;
        loop {
            let Some((token, offset)) = self.token()? else {
                return match (open, inside) {
                    (Some(open), _) => Err(unended(&open)),
                    (None, Some(block)) => {
                        let message = format!("the block of `{}` is never closed by `}}`", block.words[0]);
                        Err(Mistake { message, offset: block.offset, len: block.len })
                    }
                    (None, None) => Ok(all),
                };
            };
            let len = self.position - offset;
            match (token, open.take()) {
                (Token::Word { text, quoted }, None) => {
                    open = Some(Open { words: vec![text], offset, len, quoted });
                }
                (Token::Word { text, .. }, Some(mut started)) => {
                    started.words.push(text);
                    open = Some(started);
                }
                (Token::Semicolon, Some(ended)) => {
                    check_name(context, &ended)?;
                    all.push(ended.directive(None));
                }
                (Token::Open, Some(opened)) => {
                    check_name(context, &opened)?;
                    let block = self.block(&opened)?;
                    all.push(opened.directive(Some(block)));
                }
                (Token::Close, None) if inside.is_some() => return Ok(all),
                (Token::Close, None) => return Err(unexpected("}", "no block is open here", offset)),
                (Token::Close, Some(open)) => return Err(unended(&open)),
                (Token::Semicolon, None) => return Err(unexpected(";", "no directive stands before it", offset)),
                (Token::Open, None) => return Err(unexpected("{", "no directive stands before it", offset)),
            }
        }
    }

    fn block(&mut self, opened: &Open) -> Result<Vec<Directive>, Mistake> {
        // Lua code is not nginx configuration: it is passed over.
        if opened.words[0].ends_with("_by_lua_block") {
            self.pass_over_block();
            return Ok(Vec::new());
        }
        self.depth += 1;
        if self.depth > DEPTH {
            let message = format!("blocks nest deeper than {DEPTH} levels");
            return Err(Mistake { message, offset: opened.offset, len: opened.len });
        }
        let block = self.directives(Some(opened))?;
        self.depth -= 1;
        Ok(block)
    }

    /// Goes on after the brace that closes a block of Lua; where none is found, everything is passed over.
    fn pass_over_block(&mut self) {
        let mut depth = 1usize;
        while depth > 0 && self.position < self.text.len() {
            let rest = &self.text[self.position..];
            let first = rest.chars().next().unwrap_or_default();
            self.position += match first {
                '"' | '\'' => lua_string(rest, first),
                '[' if rest.starts_with("[[") => rest.find("]]").map_or(rest.len(), |end| end + 2),
                '-' if rest.starts_with("--[[") => rest.find("]]").map_or(rest.len(), |end| end + 2),
                '-' if rest.starts_with("--") => rest.find('\n').unwrap_or(rest.len()),
                '{' => {
                    depth += 1;
                    1
                }
                '}' => {
                    depth -= 1;
                    1
                }
                other => other.len_utf8(),
            };
        }
    }

    /// The next token, with the place where it begins.
    fn token(&mut self) -> Result<Option<(Token, usize)>, Mistake> {
        loop {
            let rest = &self.text[self.position..];
            let Some(first) = rest.chars().next() else { return Ok(None) };
            let start = self.position;
            let sign = match first {
                ' ' | '\t' | '\r' | '\n' => {
                    self.position += 1;
                    continue;
                }
                '#' => {
                    self.position += rest.find('\n').unwrap_or(rest.len());
                    continue;
                }
                // A byte order mark at the very beginning is passed over by nginx too.
                '\u{feff}' if start == 0 => {
                    self.position += first.len_utf8();
                    continue;
                }
                ';' => Token::Semicolon,
                '{' => Token::Open,
                '}' => Token::Close,
                '"' | '\'' => return self.quoted(first).map(|word| Some((word, start))),
                _ => return Ok(Some((self.word(), start))),
            };
            self.position += 1;
            return Ok(Some((sign, start)));
        }
    }

    /// A bare word: up to white space, `;` or `{`, where `${` does not count.
    fn word(&mut self) -> Token {
        let mut text = String::new();
        let mut chars = self.text[self.position..].char_indices();
        let mut variable = false;
        let mut end = self.text.len();
        while let Some((at, c)) = chars.next() {
            match c {
                '\\' => {
                    text.push(c);
                    text.extend(chars.next().map(|(_, next)| next));
                }
                ' ' | '\t' | '\r' | '\n' | ';' => {
                    end = self.position + at;
                    break;
                }
                '{' if !variable => {
                    end = self.position + at;
                    break;
                }
                c => text.push(c),
            }
            variable = c == '$';
        }
        self.position = end;
        Token::Word { text, quoted: false }
    }

    fn quoted(&mut self, quote: char) -> Result<Token, Mistake> {
        let start = self.position;
        let mut text = String::new();
        let mut chars = self.text[start + 1..].char_indices();
        while let Some((at, c)) = chars.next() {
            match c {
                '\\' => match chars.next().map(|(_, next)| next) {
                    Some(next @ ('"' | '\'' | '\\')) => text.push(next),
                    next => {
                        text.push('\\');
                        text.extend(next);
                    }
                },
                c if c == quote => {
                    self.position = start + 1 + at + 1;
                    return self.after_quote().map(|()| Token::Word { text, quoted: true });
                }
                c => text.push(c),
            }
        }
        Err(Mistake { message: format!("the quote {quote} is never closed"), offset: start, len: 1 })
    }

    /// After a closing quote nginx wants the end of the word.
    fn after_quote(&self) -> Result<(), Mistake> {
        match self.text[self.position..].chars().next() {
            None | Some(' ' | '\t' | '\r' | '\n' | ';' | '{' | ')') => Ok(()),
            Some(next) => {
                let message = format!("`{}` follows a closing quote without a space", next.escape_debug());
                Err(Mistake { message, offset: self.position, len: next.len_utf8() })
            }
        }
    }
}

/// How long the string at the beginning of `rest` is, in bytes. It ends with its quote, or with the line.
fn lua_string(rest: &str, quote: char) -> usize {
    let mut chars = rest.char_indices().skip(1);
    while let Some((at, c)) = chars.next() {
        match c {
            '\\' => {
                chars.next();
            }
            '\n' => return at,
            c if c == quote => return at + 1,
            _ => {}
        }
    }
    rest.len()
}

impl Open {
    fn directive(mut self, block: Option<Vec<Directive>>) -> Directive {
        let name = self.words.remove(0);
        Directive { name, args: self.words, block, offset: self.offset, len: self.len }
    }
}

/// No module names a directive without a single letter or digit.
fn check_name(context: &str, open: &Open) -> Result<(), Mistake> {
    let name = &open.words[0];
    let nonsense = !name.is_empty() && !name.chars().any(char::is_alphanumeric);
    if nonsense && !open.quoted && STRICT.contains(&context) {
        let message = format!("`{}` is not a directive", name.escape_debug());
        return Err(Mistake { message, offset: open.offset, len: open.len });
    }
    Ok(())
}

fn unended(open: &Open) -> Mistake {
    let message = format!("`{}` is not ended by `;`", open.words[0].escape_debug());
    Mistake { message, offset: open.offset, len: open.len }
}

fn unexpected(sign: &str, why: &str, offset: usize) -> Mistake {
    Mistake { message: format!("unexpected `{sign}`: {why}"), offset, len: sign.len() }
}
