//! The corpus: streams that are of interest, one file each in `tests/fire/corpus/`, in a form that a person can write.
//!
//! Each line is a part of the stream: bytes in hex, as many and with as many blanks as one likes; or a text in double
//! quotes; or `repeat N` and bytes in hex, N times. `#` begins a comment. A line `withholds descriptors` says that the
//! bytes that have to carry descriptors do not; a line `waits` that the client does not end its input, so that the
//! service has to close the connection.

use std::fmt::Write;
use std::path::Path;

use super::Case;

/// All files, by name.
pub fn all() -> Vec<(String, Case)> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fire/corpus");
    let mut paths: Vec<_> = std::fs::read_dir(&folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    paths.sort();
    let case = |path: &std::path::PathBuf| {
        let name = path.file_name().unwrap().to_string_lossy().into_owned();
        let case = parse(&std::fs::read_to_string(path).unwrap()).unwrap_or_else(|fault| panic!("{name}: {fault}"));
        (name, case)
    };
    paths.iter().map(case).collect()
}

fn parse(text: &str) -> Result<Case, String> {
    let mut case = Case { stream: Vec::new(), portions: Vec::new(), withholds_fds: false, half_closes: true };
    for (number, line) in text.lines().enumerate() {
        let line = line.split('#').next().unwrap_or_default().trim();
        let parsed = if let Some(text) = line.strip_prefix('"') {
            text.strip_suffix('"').map(|text| text.as_bytes().to_vec())
        } else if line == "withholds descriptors" {
            case.withholds_fds = true;
            Some(Vec::new())
        } else if line == "waits" {
            case.half_closes = false;
            Some(Vec::new())
        } else if let Some(rest) = line.strip_prefix("repeat ") {
            let (count, bytes) = rest.split_once(' ').unwrap_or((rest, ""));
            count.parse().ok().and_then(|count| Some(hex(bytes)?.repeat(count)))
        } else {
            hex(line)
        };
        case.stream.extend(parsed.ok_or_else(|| format!("line {}: {line}", number + 1))?);
    }
    Ok(case)
}

fn hex(text: &str) -> Option<Vec<u8>> {
    let digits: Vec<u32> =
        text.split_whitespace().flat_map(str::chars).map(|it| it.to_digit(16)).collect::<Option<_>>()?;
    let (pairs, rest) = digits.as_chunks::<2>();
    rest.is_empty().then(|| pairs.iter().map(|[high, low]| (high * 16 + low) as u8).collect())
}

/// A case as such a file.
pub fn text(case: &Case) -> String {
    let mut text = format!("# portions {:?}\n", case.portions);
    if case.withholds_fds {
        text.push_str("withholds descriptors\n");
    }
    if !case.half_closes {
        text.push_str("waits\n");
    }
    for line in case.stream.chunk_by(|one, other| one == other).map(Run::of).collect::<Lines>().0 {
        let _ = writeln!(text, "{line}");
    }
    text
}

/// The same byte, several times.
struct Run(u8, usize);

impl Run {
    fn of(bytes: &[u8]) -> Self {
        Self(bytes[0], bytes.len())
    }
}

/// Long runs on lines of their own, 28 bytes a line otherwise.
#[derive(Default)]
struct Lines(Vec<String>);

impl FromIterator<Run> for Lines {
    fn from_iter<I: IntoIterator<Item = Run>>(runs: I) -> Self {
        let (mut lines, mut line, mut length) = (Vec::new(), String::new(), 0);
        for Run(byte, count) in runs {
            if count > 64 {
                lines.push(std::mem::take(&mut line));
                lines.push(format!("repeat {count} {byte:02x}"));
                length = 0;
                continue;
            }
            for _ in 0..count {
                let _ = write!(line, "{byte:02x}");
                length += 1;
                match length % 28 {
                    0 => lines.push(std::mem::take(&mut line)),
                    place if place % 4 == 0 => line.push(' '),
                    _ => {}
                }
            }
        }
        lines.push(line);
        lines.retain(|line| !line.is_empty());
        Self(lines)
    }
}

#[test]
fn what_is_printed_of_a_case_is_read_as_the_same_case() {
    let stream = [&b"\0\0\0\x1cfire"[..], &[7; 100], &[1, 2, 3]].concat();
    for (withholds_fds, half_closes) in [(true, false), (false, true)] {
        let case = Case { stream: stream.clone(), portions: Vec::new(), withholds_fds, half_closes };
        assert_eq!(parse(&text(&case)), Ok(case));
    }
}
