//! Header blocks: name/value lists, compressed over the whole connection with SPDY's own dictionary.
use super::SpdyError;
use bytes::{Buf, BufMut, Bytes, BytesMut};
use flate2::{Compress, Compression, Decompress, FlushCompress, FlushDecompress, Status};

/// Compresses the blocks of one direction, in the order they are sent.
pub struct HeaderWriter(Compress);

/// Decompresses the blocks of one direction, in the order they came.
pub struct HeaderReader(Decompress);

/// The most a block may hold once decompressed.
const MAX_BLOCK: usize = 256 * 1024;

impl Default for HeaderWriter {
    fn default() -> Self {
        let mut compress = Compress::new(Compression::default(), true);
        compress.set_dictionary(DICTIONARY).expect("a fresh stream takes a dictionary");
        Self(compress)
    }
}

impl Default for HeaderReader {
    fn default() -> Self {
        Self(Decompress::new(true))
    }
}

impl HeaderWriter {
    /// One block. Names must be lower case.
    pub fn write(&mut self, headers: &[(&str, &str)]) -> Bytes {
        let mut plain = BytesMut::new();
        plain.put_u32(headers.len() as u32);
        for (name, value) in headers {
            for text in [name, value] {
                plain.put_u32(text.len() as u32);
                plain.put_slice(text.as_bytes());
            }
        }
        let mut out = Vec::with_capacity(plain.len() + 64);
        let before = self.0.total_in();
        loop {
            let done = (self.0.total_in() - before) as usize;
            self.0.compress_vec(&plain[done..], &mut out, FlushCompress::Sync).expect("compressing into memory does not fail");
            // Room left means that the flush is complete.
            if out.len() < out.capacity() {
                return out.into();
            }
            out.reserve(256);
        }
    }
}

impl HeaderReader {
    pub fn read(&mut self, block: &[u8]) -> Result<Vec<(String, String)>, SpdyError> {
        parse(&self.decompress(block)?)
    }

    fn decompress(&mut self, block: &[u8]) -> Result<Bytes, SpdyError> {
        let mut out = Vec::with_capacity(1024);
        let start = self.0.total_in();
        loop {
            let done = (self.0.total_in() - start) as usize;
            match self.0.decompress_vec(&block[done..], &mut out, FlushDecompress::Sync) {
                Ok(Status::StreamEnd) => return Ok(out.into()),
                Ok(Status::Ok | Status::BufError) => {
                    if out.len() < out.capacity() {
                        return Ok(out.into());
                    }
                    if out.len() >= MAX_BLOCK {
                        return Err(SpdyError::Malformed("its headers are too long"));
                    }
                    out.reserve(out.len());
                }
                Err(error) if error.needs_dictionary().is_some() => {
                    self.0.set_dictionary(DICTIONARY).map_err(|_| SpdyError::Malformed("its headers use another dictionary"))?;
                }
                Err(_) => return Err(SpdyError::Malformed("its headers can't be decompressed")),
            }
        }
    }
}

fn parse(mut plain: &[u8]) -> Result<Vec<(String, String)>, SpdyError> {
    let short = || SpdyError::Malformed("its headers end too early");
    let number = |plain: &mut &[u8]| if plain.len() < 4 { Err(short()) } else { Ok(plain.get_u32() as usize) };
    let count = number(&mut plain)?;
    let mut headers = Vec::new();
    for _ in 0..count {
        let mut text = || {
            let length = number(&mut plain)?;
            let (text, rest) = plain.split_at_checked(length).ok_or_else(short)?;
            plain = rest;
            String::from_utf8(text.to_vec()).map_err(|_| SpdyError::Malformed("its headers are not text"))
        };
        headers.push((text()?, text()?));
    }
    Ok(headers)
}

/// The dictionary of SPDY/3: words common in headers, each method and header name with its length before it.
const DICTIONARY: &[u8] = b"\x00\x00\x00\x07options\x00\x00\x00\x04head\x00\x00\x00\x04post\x00\x00\x00\x03put\
\x00\x00\x00\x06delete\x00\x00\x00\x05trace\x00\x00\x00\x06accept\x00\x00\x00\x0eaccept-charset\
\x00\x00\x00\x0faccept-encoding\x00\x00\x00\x0faccept-language\x00\x00\x00\x0daccept-ranges\x00\x00\x00\x03age\
\x00\x00\x00\x05allow\x00\x00\x00\x0dauthorization\x00\x00\x00\x0dcache-control\x00\x00\x00\x0aconnection\
\x00\x00\x00\x0ccontent-base\x00\x00\x00\x10content-encoding\x00\x00\x00\x10content-language\
\x00\x00\x00\x0econtent-length\x00\x00\x00\x10content-location\x00\x00\x00\x0bcontent-md5\
\x00\x00\x00\x0dcontent-range\x00\x00\x00\x0ccontent-type\x00\x00\x00\x04date\x00\x00\x00\x04etag\
\x00\x00\x00\x06expect\x00\x00\x00\x07expires\x00\x00\x00\x04from\x00\x00\x00\x04host\x00\x00\x00\x08if-match\
\x00\x00\x00\x11if-modified-since\x00\x00\x00\x0dif-none-match\x00\x00\x00\x08if-range\
\x00\x00\x00\x13if-unmodified-since\x00\x00\x00\x0dlast-modified\x00\x00\x00\x08location\
\x00\x00\x00\x0cmax-forwards\x00\x00\x00\x06pragma\x00\x00\x00\x12proxy-authenticate\
\x00\x00\x00\x13proxy-authorization\x00\x00\x00\x05range\x00\x00\x00\x07referer\x00\x00\x00\x0bretry-after\
\x00\x00\x00\x06server\x00\x00\x00\x02te\x00\x00\x00\x07trailer\x00\x00\x00\x11transfer-encoding\
\x00\x00\x00\x07upgrade\x00\x00\x00\x0auser-agent\x00\x00\x00\x04vary\x00\x00\x00\x03via\x00\x00\x00\x07warning\
\x00\x00\x00\x10www-authenticate\x00\x00\x00\x06method\x00\x00\x00\x03get\x00\x00\x00\x06status\
\x00\x00\x00\x06200 OK\x00\x00\x00\x07version\x00\x00\x00\x08HTTP/1.1\x00\x00\x00\x03url\x00\x00\x00\x06public\
\x00\x00\x00\x0aset-cookie\x00\x00\x00\x0akeep-alive\x00\x00\x00\x06origin100101201202205206300302303304305306307\
402405406407408409410411412413414415416417502504505203 Non-Authoritative Information204 No Content\
301 Moved Permanently400 Bad Request401 Unauthorized403 Forbidden404 Not Found500 Internal Server Error\
501 Not Implemented503 Service UnavailableJan Feb Mar Apr May Jun Jul Aug Sept Oct Nov Dec 00:00:00 Mon, Tue, \
Wed, Thu, Fri, Sat, Sun, GMTchunked,text/html,image/png,image/jpg,image/gif,application/xml,\
application/xhtml+xml,text/plain,text/javascript,publicprivatemax-age=gzip,deflate,sdchcharset=utf-8charset=iso-8859-1,utf-,*,enq=0.";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_dictionary_is_the_protocols() {
        // Its length and Adler-32, as every SPDY/3 stream names it.
        assert_eq!(DICTIONARY.len(), 1423);
        assert_eq!(Compress::new(Compression::default(), true).set_dictionary(DICTIONARY).unwrap(), 0xe3c6_a7c2);
    }

    #[test]
    fn blocks_share_one_compression_over_the_connection() {
        let (mut writer, mut reader) = (HeaderWriter::default(), HeaderReader::default());
        let long = "x".repeat(40_000);
        for headers in [vec![("streamtype", "stdout")], vec![("streamtype", "stderr"), ("port", "80")], vec![], vec![("long", long.as_str())], vec![("a", "")]]
        {
            let block = writer.write(&headers);
            let expected: Vec<_> = headers.iter().map(|(n, v)| (n.to_string(), v.to_string())).collect();
            assert_eq!(reader.read(&block).unwrap(), expected);
        }
    }

    #[test]
    fn broken_blocks_are_refused() {
        assert!(HeaderReader::default().read(b"nonsense").is_err());
        assert!(parse(&[0, 0, 0, 1, 0, 0, 0, 9, b'a']).is_err());
        assert!(parse(&[0xff, 0xff, 0xff, 0xff]).is_err());
        let mut writer = HeaderWriter::default();
        let bomb = "a".repeat(MAX_BLOCK * 4);
        assert!(HeaderReader::default().read(&writer.write(&[("bomb", &bomb)])).is_err());
    }
}
