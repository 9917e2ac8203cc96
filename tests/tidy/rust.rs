//! Reading Rust as far as the checks need it: code told from comments and literals, inline modules, paths.

/// Splits Rust text into code and comments of the same shape: what belongs to the other, or is inside a literal, is
/// blank, and every line keeps its number.
pub(crate) fn split(text: &str) -> (String, String) {
    let chars: Vec<char> = text.chars().collect();
    let (mut code, mut comments) = (String::with_capacity(text.len()), String::new());
    let mut at = 0;
    while at < chars.len() {
        let rest = &chars[at..];
        let is_after_word = at > 0 && is_word(chars[at - 1]);
        let (len, is_comment) = match rest {
            ['/', '/', ..] => (rest.iter().position(|c| *c == '\n').unwrap_or(rest.len()), true),
            ['/', '*', ..] => (block_comment_len(rest), true),
            ['"', ..] => (string_len(rest), false),
            ['r', ..] | ['b' | 'c', 'r', ..] if !is_after_word => (raw_string_len(rest), false),
            ['\'', '\\', ..] => (3 + rest[3..].iter().position(|c| *c == '\'').map_or(0, |end| end + 1), false),
            ['\'', _, '\'', ..] => (3, false),
            _ => (0, false),
        };
        for &c in &rest[..len] {
            let blank = if c == '\n' { '\n' } else { ' ' };
            code.push(blank);
            comments.push(if is_comment { c } else { blank });
        }
        if len == 0 {
            code.push(rest[0]);
            comments.push(if rest[0] == '\n' { '\n' } else { ' ' });
        }
        at += len.max(1);
    }
    (code, comments)
}

pub(crate) fn is_word(c: char) -> bool {
    c.is_alphanumeric() || c == '_'
}

pub(crate) fn block_comment_len(text: &[char]) -> usize {
    let (mut depth, mut at) = (0, 0);
    while at < text.len() {
        match text[at..] {
            ['/', '*', ..] => (depth, at) = (depth + 1, at + 2),
            ['*', '/', ..] => (depth, at) = (depth - 1, at + 2),
            _ => at += 1,
        }
        if depth == 0 {
            return at;
        }
    }
    text.len()
}

pub(crate) fn string_len(text: &[char]) -> usize {
    let mut at = 1;
    while at < text.len() {
        match text[at] {
            '\\' => at += 2,
            '"' => return at + 1,
            _ => at += 1,
        }
    }
    text.len()
}

/// Length of a raw string that begins here; 0 where none does.
pub(crate) fn raw_string_len(text: &[char]) -> usize {
    let prefix = if text[0] == 'r' { 1 } else { 2 };
    let hashes = text[prefix..].iter().take_while(|c| **c == '#').count();
    if text.get(prefix + hashes) != Some(&'"') {
        return 0;
    }
    let mut end = vec!['"'];
    end.resize(1 + hashes, '#');
    let body = prefix + hashes + 1;
    text[body..].windows(end.len()).position(|w| *w == end[..]).map_or(text.len(), |at| body + at + end.len())
}

#[derive(Clone, Copy)]
pub(crate) struct Token<'a> {
    pub(crate) text: &'a str,
    /// From 1.
    pub(crate) line: usize,
}

/// Words, `::`, and every other character that is not white by itself.
pub(crate) fn tokens(code: &[String]) -> Vec<Token<'_>> {
    let mut found = Vec::new();
    for (index, mut rest) in code.iter().map(String::as_str).enumerate() {
        while let Some(first) = rest.chars().next() {
            let word_len = rest.find(|c| !is_word(c)).unwrap_or(rest.len());
            let len = if word_len > 0 {
                word_len
            } else if rest.starts_with("::") {
                2
            } else {
                first.len_utf8()
            };
            let (text, behind) = rest.split_at(len);
            if !first.is_whitespace() {
                found.push(Token { text, line: index + 1 });
            }
            rest = behind;
        }
    }
    found
}

/// A module written within another one's file.
pub(crate) struct InlineModule {
    pub(crate) name: String,
    pub(crate) first_line: usize,
    pub(crate) last_line: usize,
    pub(crate) is_test: bool,
}

pub(crate) fn inline_modules(tokens: &[Token<'_>]) -> Vec<InlineModule> {
    let (mut found, mut open, mut depth) = (Vec::new(), Vec::new(), 0_usize);
    for (at, token) in tokens.iter().enumerate() {
        match token.text {
            "{" => {
                if at >= 2 && tokens[at - 2].text == "mod" {
                    let head = item_before(tokens, at);
                    let is_test = is_for_tests(head);
                    let (name, first_line) = (tokens[at - 1].text.to_owned(), head[0].line);
                    open.push((depth, found.len()));
                    found.push(InlineModule { name, first_line, last_line: usize::MAX, is_test });
                }
                depth += 1;
            }
            "}" => {
                depth = depth.saturating_sub(1);
                if let Some((_, index)) = open.pop_if(|(opened, _)| *opened == depth) {
                    found[index].last_line = token.line;
                }
            }
            _ => {}
        }
    }
    let end = tokens.last().map_or(1, |token| token.line);
    found.iter_mut().for_each(|module| module.last_line = module.last_line.min(end));
    found
}

/// What stands between the end of the item before and `at`: attributes, visibility and name.
pub(crate) fn item_before<'a, 'b>(tokens: &'b [Token<'a>], at: usize) -> &'b [Token<'a>] {
    let start = tokens[..at].iter().rposition(|token| matches!(token.text, ";" | "{" | "}")).map_or(0, |end| end + 1);
    &tokens[start..at]
}

pub(crate) fn is_for_tests(item: &[Token<'_>]) -> bool {
    let has = |word| item.iter().any(|token| token.text == word);
    let is_refused = item.windows(3).any(|t| t[0].text == "not" && t[1].text == "(" && t[2].text == "test");
    has("cfg") && has("test") && !has("any") && !is_refused
}

/// A path named in code, such as `["crate", "fs", "File"]`; its last part is `*` for a glob.
pub(crate) struct Reference {
    pub(crate) path: Vec<String>,
    pub(crate) line: usize,
}

/// All paths that begin with one of `roots`, with the trees of `use` unfolded.
pub(crate) fn references(tokens: &[Token<'_>], roots: &[&str]) -> Vec<Reference> {
    let mut found = Vec::new();
    for (at, token) in tokens.iter().enumerate() {
        let is_path = tokens.get(at + 1).is_some_and(|next| next.text == "::");
        let is_start = at == 0 || tokens[at - 1].text != "::";
        let is_used = at > 0 && tokens[at - 1].text == "use";
        if roots.contains(&token.text) && is_start && (is_path || is_used) {
            unfold(tokens, at, &mut Vec::new(), &mut found);
        }
    }
    found
}

/// Reads one path or tree of paths that begins at `at`; returns where it ends.
pub(crate) fn unfold(
    tokens: &[Token<'_>],
    mut at: usize,
    prefix: &mut Vec<String>,
    found: &mut Vec<Reference>,
) -> usize {
    let depth = prefix.len();
    while let Some(token) = tokens.get(at) {
        if token.text == "{" && !prefix.is_empty() {
            at += 1;
            while let Some(inner) = tokens.get(at)
                && inner.text != "}"
            {
                at = if inner.text == "," { at + 1 } else { unfold(tokens, at, prefix, found) };
            }
            at += 1;
            break;
        }
        let is_name = token.text.starts_with(is_word);
        if is_name {
            prefix.push(token.text.into());
        }
        let goes_on = is_name && tokens.get(at + 1).is_some_and(|next| next.text == "::");
        let behind = tokens.get(at + 2).map_or("", |next| next.text);
        if goes_on && (behind.starts_with(is_word) || matches!(behind, "{" | "*")) {
            at += 2;
            continue;
        }
        let mut path = prefix.clone();
        if token.text == "*" {
            path.push("*".into());
        }
        found.push(Reference { path, line: token.line });
        at += 1;
        if tokens.get(at).is_some_and(|next| next.text == "as") {
            at += 2;
        }
        break;
    }
    prefix.truncate(depth);
    at
}

/// The path from the crate's root that `path`, written in `module`, means.
pub(crate) fn resolve(module: &[String], path: &[String]) -> Vec<String> {
    let mut absolute = if path[0] == "crate" { Vec::new() } else { module.to_vec() };
    for part in path {
        match part.as_str() {
            "super" => drop(absolute.pop()),
            "crate" | "self" => {}
            name => absolute.push(name.into()),
        }
    }
    absolute
}

/// Whether `word` stands in `text` with no letter or digit directly before or behind it.
pub(crate) fn has_word(text: &str, word: &str) -> bool {
    text.match_indices(word).any(|(at, _)| {
        let before = text[..at].chars().next_back();
        let behind = text[at + word.len()..].chars().next();
        let ends_in_word = word.ends_with(is_word);
        let goes_on = ends_in_word && behind.is_some_and(is_word);
        !before.is_some_and(is_word) && !goes_on
    })
}
