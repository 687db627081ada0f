//! An env file that an app reads: ours stand in marked blocks, everything else stays byte for byte.
//!
//! Values are quoted for POSIX `sh`, so that `. file` reads them back exactly.

use std::collections::BTreeMap;
use std::io::Write as _;
use std::path::Path;
use std::sync::{Mutex, PoisonError};
use std::{fs, io};

/// Several writers of this process may share a file; they write it one after another.
static WRITING: Mutex<()> = Mutex::new(());

/// Writes names and values as the block of this label, in place of what it held; without names the block goes. The file is
/// replaced as a whole, with mode 0600. Gives whether the file is another than it was.
///
/// # Errors
/// The file cannot be read or replaced, or the block has no end; nothing is changed then.
pub fn write(path: &Path, label: &str, config: &BTreeMap<String, String>) -> io::Result<bool> {
    let _alone = WRITING.lock().unwrap_or_else(PoisonError::into_inner);
    // A link stays a link: what it points to is replaced.
    let path = match fs::canonicalize(path) {
        Ok(path) => path,
        Err(error) if error.kind() == io::ErrorKind::NotFound => path.to_owned(),
        Err(error) => return Err(error),
    };
    let before = match fs::read_to_string(&path) {
        Ok(text) => text,
        Err(error) if error.kind() == io::ErrorKind::NotFound => String::new(),
        Err(error) => return Err(error),
    };
    let after = replace(&before, label, config)?;
    if after == before {
        return Ok(false);
    }
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    // Mode 0600 from its first byte.
    let mut fresh = tempfile::NamedTempFile::new_in(folder)?;
    fresh.write_all(after.as_bytes())?;
    fresh.as_file().sync_all()?;
    fresh.persist(&path).map_err(|error| error.error)?;
    fs::File::open(folder)?.sync_all()?;
    Ok(true)
}

/// The file with this label's block replaced, or appended when there was none.
fn replace(before: &str, label: &str, config: &BTreeMap<String, String>) -> io::Result<String> {
    let plain: String = label.chars().map(|letter| if letter.is_control() { '_' } else { letter }).collect();
    let (begin, end) = (format!("# standpipe {plain} begin\n"), format!("# standpipe {plain} end\n"));
    let mut block = begin.clone();
    config.iter().for_each(|(name, value)| block.push_str(&format!("{name}={}\n", quote(value))));
    block.push_str(&end);
    let Some(start) = line_at(before, &begin) else {
        let gap = if before.is_empty() || before.ends_with('\n') { "" } else { "\n" };
        return Ok(if config.is_empty() { before.to_owned() } else { format!("{before}{gap}{block}") });
    };
    let (head, rest) = before.split_at(start);
    let damaged =
        || io::Error::other(format!("`{}` has no `{}` behind it; mend the file", begin.trim(), end.trim()));
    let stop = line_at(rest, &end).ok_or_else(damaged)? + end.len();
    let tail = rest.get(stop..).unwrap_or_default();
    Ok(if config.is_empty() { format!("{head}{tail}") } else { format!("{head}{block}{tail}") })
}

/// Where a whole line stands.
fn line_at(text: &str, line: &str) -> Option<usize> {
    let starts = text.match_indices(line).map(|(at, _)| at);
    starts.into_iter().find(|at| *at == 0 || text.as_bytes().get(at - 1) == Some(&b'\n'))
}

/// Single quotes take everything but themselves as it is (POSIX Shell, section 2.2.2).
pub fn quote(value: &str) -> String {
    format!("'{}'", value.replace('\'', r"'\''"))
}

/// A text as the name of a variable: upper case, anything else an underscore, no digit in front (POSIX Base
/// Definitions, section 8.1).
pub fn variable(text: &str) -> String {
    let letter =
        |letter: char| if letter.is_ascii_alphanumeric() { letter.to_ascii_uppercase() } else { '_' };
    let digit = text.starts_with(|first: char| first.is_ascii_digit());
    digit.then_some('_').into_iter().chain(text.chars().map(letter)).collect()
}
