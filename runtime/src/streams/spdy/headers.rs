//! The headers of SPDY's streams: pairs of texts, compressed with one state for the whole connection. Pure.
//!
//! Entry: [`Reader::read`], [`Writer::write`]. Source: "SPDY Protocol - Draft 3.1", section 2.6.10. Invariant: what a
//! client sends unpacks to a bounded size.

use std::collections::BTreeMap;
use std::io;
use std::sync::LazyLock;

use bytes::Buf as _;
use flate2::{Compress, Compression, Decompress, FlushCompress, FlushDecompress, Status};

/// Pairs of names in lower case and values.
pub type Headers = BTreeMap<String, String>;

/// The most that one stream's headers unpack to.
const LARGEST: usize = 64 * 1024;

/// The words that the protocol lets both sides take for known, each after its length.
const WORDS: &str = "options head post put delete trace accept accept-charset accept-encoding accept-language \
    accept-ranges age allow authorization cache-control connection content-base content-encoding content-language \
    content-length content-location content-md5 content-range content-type date etag expect expires from host if-match \
    if-modified-since if-none-match if-range if-unmodified-since last-modified location max-forwards pragma \
    proxy-authenticate proxy-authorization range referer retry-after server te trailer transfer-encoding upgrade \
    user-agent vary via warning www-authenticate method get status 200_OK version HTTP/1.1 url public set-cookie \
    keep-alive origin";
/// The text that follows them.
const TEXT: &str = "100101201202205206300302303304305306307402405406407408409410411412413414415416417502504505203 \
    Non-Authoritative Information204 No Content301 Moved Permanently400 Bad Request401 Unauthorized403 Forbidden404 Not \
    Found500 Internal Server Error501 Not Implemented503 Service UnavailableJan Feb Mar Apr May Jun Jul Aug Sept Oct \
    Nov Dec 00:00:00 Mon, Tue, Wed, Thu, Fri, Sat, Sun, GMTchunked,text/html,image/png,image/jpg,image/gif,\
    application/xml,application/xhtml+xml,text/plain,text/javascript,publicprivatemax-age=gzip,deflate,sdchcharset=\
    utf-8charset=iso-8859-1,utf-,*,enq=0.";

static DICTIONARY: LazyLock<Vec<u8>> = LazyLock::new(|| {
    let mut bytes = Vec::new();
    for word in WORDS.split(' ').map(|word| word.replace('_', " ")) {
        bytes.extend_from_slice(&length(word.len()));
        bytes.extend_from_slice(word.as_bytes());
    }
    bytes.extend_from_slice(TEXT.as_bytes());
    bytes
});

fn length(length: usize) -> [u8; 4] {
    u32::try_from(length).unwrap_or(u32::MAX).to_be_bytes()
}

/// Reads the headers that one side sends.
pub(super) struct Reader(Decompress);

impl Reader {
    pub(super) fn new() -> Self {
        Self(Decompress::new(true))
    }

    /// The headers of one frame.
    ///
    /// # Errors
    /// What can't be unpacked, or unpacks to too much.
    pub(super) fn read(&mut self, block: &[u8]) -> io::Result<Headers> {
        let mut plain = Vec::with_capacity(1024);
        let mut rest = block;
        loop {
            let before = self.0.total_in();
            let status = match self.0.decompress_vec(rest, &mut plain, FlushDecompress::Sync) {
                Err(error) if error.needs_dictionary().is_some() => {
                    self.0.set_dictionary(&DICTIONARY).map_err(invalid)?;
                    Status::Ok
                }
                status => status.map_err(invalid)?,
            };
            let used = usize::try_from(self.0.total_in() - before).unwrap_or(rest.len());
            rest = &rest[used.min(rest.len())..];
            let full = plain.len() == plain.capacity();
            if rest.is_empty() && !full {
                return pairs(&plain);
            }
            if status == Status::StreamEnd
                || plain.len() > LARGEST
                || (used == 0 && !full && status == Status::BufError)
            {
                return Err(invalid("headers that can't be unpacked"));
            }
            if full {
                plain.reserve(plain.len().max(1024));
            }
        }
    }
}

fn pairs(mut plain: &[u8]) -> io::Result<Headers> {
    let number = |plain: &mut &[u8]| -> io::Result<usize> {
        if plain.len() < 4 {
            return Err(invalid("headers that end too soon"));
        }
        Ok(usize::try_from(plain.get_u32()).unwrap_or(usize::MAX))
    };
    let count = number(&mut plain)?;
    let mut headers = Headers::new();
    for _ in 0..count {
        let mut text = || -> io::Result<String> {
            let length = number(&mut plain)?;
            let (text, rest) = plain.split_at_checked(length).ok_or_else(|| invalid("headers that end too soon"))?;
            plain = rest;
            Ok(String::from_utf8_lossy(text).into_owned())
        };
        let name = text()?.to_ascii_lowercase();
        headers.insert(name, text()?);
    }
    Ok(headers)
}

/// Writes the headers that one side sends.
pub(super) struct Writer(Compress);

impl Writer {
    /// # Errors
    /// A compressor that does not take the protocol's dictionary.
    pub(super) fn new() -> io::Result<Self> {
        let mut compress = Compress::new(Compression::default(), true);
        compress.set_dictionary(&DICTIONARY).map_err(invalid)?;
        Ok(Self(compress))
    }

    /// The block for one frame.
    pub(super) fn write(&mut self, headers: &Headers) -> io::Result<Vec<u8>> {
        let mut plain = length(headers.len()).to_vec();
        for text in headers.iter().flat_map(|(name, value)| [name, value]) {
            plain.extend_from_slice(&length(text.len()));
            plain.extend_from_slice(text.as_bytes());
        }
        let mut block = Vec::with_capacity(plain.len() + 64);
        let mut rest = plain.as_slice();
        loop {
            let before = self.0.total_in();
            self.0.compress_vec(rest, &mut block, FlushCompress::Sync).map_err(invalid)?;
            let used = usize::try_from(self.0.total_in() - before).unwrap_or(rest.len());
            rest = &rest[used.min(rest.len())..];
            if rest.is_empty() && block.len() < block.capacity() {
                return Ok(block);
            }
            block.reserve(block.len().max(64));
        }
    }
}

fn invalid(what: impl ToString) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, what.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_dictionary_is_the_protocols() {
        assert_eq!(DICTIONARY.len(), 1423);
        // Adler-32 of the dictionary, which every SPDY/3 header block begins with.
        let block = Writer::new().expect("a compressor").write(&Headers::new()).expect("a block");
        assert_eq!(block[2..6], [0xe3, 0xc6, 0xa7, 0xc2]);
    }

    #[test]
    fn a_bomb_is_refused() {
        let bomb: Headers = [("x".to_owned(), "0".repeat(10 << 20))].into();
        let block = Writer::new().expect("a compressor").write(&bomb).expect("a block");
        assert!(block.len() < LARGEST);
        assert!(Reader::new().read(&block).is_err());
    }

    #[test]
    fn nonsense_is_refused() {
        for block in [&b""[..], b"\x78", b"nonsense", &[0x78, 0xbb, 0xe3, 0xc6, 0xa7, 0xc2, 0xff, 0xff]] {
            assert!(Reader::new().read(block).is_err(), "{block:?}");
        }
    }
}
