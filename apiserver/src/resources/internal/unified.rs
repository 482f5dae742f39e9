//! The difference of two texts as `diff -u` writes it, found the way Python's difflib (and the Go library that follows it) does:
//! the longest common block first, then both sides of it. Entry point: [`difference`].
//!
//! Invariant: lines that occur often in a long text start no block; without that rule other blocks would be found.

use std::collections::BTreeMap;
use std::fmt::Write as _;

const CONTEXT: usize = 3;
/// From this many lines on, frequent ones are left out.
const LONG: usize = 200;

/// Equal lines: `size` of them, from `a` in the old text and `b` in the new one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Block {
    a: usize,
    b: usize,
    size: usize,
}

/// A stretch of both texts that is the same or not.
#[derive(Clone, Copy)]
struct Stretch {
    equal: bool,
    a: (usize, usize),
    b: (usize, usize),
}

/// The hunks, each with three lines around it.
pub fn difference(old: &[String], new: &[String]) -> String {
    let mut text = String::new();
    for hunk in hunks(&stretches(&blocks(old, new), old.len(), new.len())) {
        let (Some(first), Some(last)) = (hunk.first(), hunk.last()) else { continue };
        let (a, b) = (range(first.a.0, last.a.1), range(first.b.0, last.b.1));
        let _ = writeln!(text, "@@ -{a} +{b} @@");
        for stretch in &hunk {
            let (minus, plus) = if stretch.equal { (" ", None) } else { ("-", Some("+")) };
            old[stretch.a.0..stretch.a.1].iter().for_each(|line| text.push_str(&format!("{minus}{line}\n")));
            if let Some(plus) = plus {
                new[stretch.b.0..stretch.b.1].iter().for_each(|line| text.push_str(&format!("{plus}{line}\n")));
            }
        }
    }
    text
}

fn range(from: usize, to: usize) -> String {
    match to - from {
        0 => format!("{from},0"),
        1 => format!("{}", from + 1),
        length => format!("{},{length}", from + 1),
    }
}

/// Where each line of the new text is, without the frequent ones.
fn places(new: &[String]) -> BTreeMap<&str, Vec<usize>> {
    let mut places: BTreeMap<&str, Vec<usize>> = BTreeMap::new();
    for (i, line) in new.iter().enumerate() {
        places.entry(line).or_default().push(i);
    }
    if new.len() >= LONG {
        let often = new.len() / 100 + 1;
        places.retain(|_, found| found.len() <= often);
    }
    places
}

fn blocks(old: &[String], new: &[String]) -> Vec<Block> {
    let places = places(new);
    let mut found = Vec::new();
    let mut open = vec![((0, old.len()), (0, new.len()))];
    while let Some((a, b)) = open.pop() {
        let block = longest(old, new, &places, a, b);
        if block.size == 0 {
            continue;
        }
        found.push(block);
        if a.0 < block.a && b.0 < block.b {
            open.push(((a.0, block.a), (b.0, block.b)));
        }
        if block.a + block.size < a.1 && block.b + block.size < b.1 {
            open.push(((block.a + block.size, a.1), (block.b + block.size, b.1)));
        }
    }
    found.sort_unstable();
    found
}

fn longest(
    old: &[String],
    new: &[String],
    places: &BTreeMap<&str, Vec<usize>>,
    a: (usize, usize),
    b: (usize, usize),
) -> Block {
    let mut best = Block { a: a.0, b: b.0, size: 0 };
    let mut lengths: BTreeMap<usize, usize> = BTreeMap::new();
    for (i, line) in old.iter().enumerate().take(a.1).skip(a.0) {
        let mut next = BTreeMap::new();
        for j in places.get(line.as_str()).into_iter().flatten().copied().filter(|j| (b.0..b.1).contains(j)) {
            let size = j.checked_sub(1).and_then(|before| lengths.get(&before)).copied().unwrap_or(0) + 1;
            next.insert(j, size);
            if size > best.size {
                best = Block { a: i + 1 - size, b: j + 1 - size, size };
            }
        }
        lengths = next;
    }
    // Frequent lines at the edges belong to the block after all.
    while best.a > a.0 && best.b > b.0 && old[best.a - 1] == new[best.b - 1] {
        best = Block { a: best.a - 1, b: best.b - 1, size: best.size + 1 };
    }
    while best.a + best.size < a.1 && best.b + best.size < b.1 && old[best.a + best.size] == new[best.b + best.size] {
        best.size += 1;
    }
    best
}

fn stretches(blocks: &[Block], old: usize, new: usize) -> Vec<Stretch> {
    let mut stretches = Vec::new();
    let (mut a, mut b) = (0, 0);
    let end = Block { a: old, b: new, size: 0 };
    for block in blocks.iter().chain([&end]) {
        if a < block.a || b < block.b {
            stretches.push(Stretch { equal: false, a: (a, block.a), b: (b, block.b) });
        }
        (a, b) = (block.a + block.size, block.b + block.size);
        if block.size == 0 {
            continue;
        }
        match stretches.last_mut() {
            Some(last) if last.equal => (last.a.1, last.b.1) = (a, b),
            Some(_) | None => stretches.push(Stretch { equal: true, a: (block.a, a), b: (block.b, b) }),
        }
    }
    stretches
}

fn hunks(stretches: &[Stretch]) -> Vec<Vec<Stretch>> {
    let mut stretches = stretches.to_vec();
    if let Some(first) = stretches.first_mut().filter(|first| first.equal) {
        first.a.0 = first.a.0.max(first.a.1.saturating_sub(CONTEXT));
        first.b.0 = first.b.0.max(first.b.1.saturating_sub(CONTEXT));
    }
    if let Some(last) = stretches.last_mut().filter(|last| last.equal) {
        last.a.1 = last.a.1.min(last.a.0 + CONTEXT);
        last.b.1 = last.b.1.min(last.b.0 + CONTEXT);
    }
    let (mut hunks, mut hunk) = (Vec::new(), Vec::new());
    for stretch in stretches {
        if stretch.equal && stretch.a.1 - stretch.a.0 > 2 * CONTEXT {
            hunk.push(Stretch {
                a: (stretch.a.0, stretch.a.0 + CONTEXT),
                b: (stretch.b.0, stretch.b.0 + CONTEXT),
                ..stretch
            });
            hunks.push(std::mem::take(&mut hunk));
            hunk.push(Stretch {
                a: (stretch.a.1 - CONTEXT, stretch.a.1),
                b: (stretch.b.1 - CONTEXT, stretch.b.1),
                ..stretch
            });
        } else {
            hunk.push(stretch);
        }
    }
    if hunk.iter().any(|stretch| !stretch.equal) {
        hunks.push(hunk);
    }
    hunks
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lines(text: &str) -> Vec<String> {
        text.split_whitespace().map(str::to_owned).collect()
    }

    #[test]
    fn hunks_as_diff_writes_them() {
        let table = [
            ("a b c", "a b c", ""),
            ("a", "b", "@@ -1 +1 @@\n-a\n+b\n"),
            ("", "a", "@@ -0,0 +1 @@\n+a\n"),
            ("1 2 3 4 5 x 6 7 8 9", "1 2 3 4 5 y z 6 7 8 9", "@@ -3,7 +3,8 @@\n 3\n 4\n 5\n-x\n+y\n+z\n 6\n 7\n 8\n"),
            (
                "a 1 2 3 4 5 6 7 b",
                "A 1 2 3 4 5 6 7 B",
                "@@ -1,4 +1,4 @@\n-a\n+A\n 1\n 2\n 3\n@@ -6,4 +6,4 @@\n 5\n 6\n 7\n-b\n+B\n",
            ),
        ];
        for (old, new, expected) in table {
            assert_eq!(difference(&lines(old), &lines(new)), expected, "{old} / {new}");
        }
    }

    #[test]
    fn frequent_lines_of_long_texts_start_no_block() {
        let old: Vec<String> = (0..300).map(|i| if i % 2 == 0 { "}".to_owned() } else { i.to_string() }).collect();
        let mut new = old.clone();
        new[151] = "x".to_owned();
        assert_eq!(difference(&old, &new), "@@ -149,7 +149,7 @@\n }\n 149\n }\n-151\n+x\n }\n 153\n }\n");
    }
}
