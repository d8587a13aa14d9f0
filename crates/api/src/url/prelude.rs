//! The prelude of a streamed answer: JSON with status, headers and cookies, then eight NUL bytes, then the body.
//!
//! Runtimes announce it with the content type [`CONTENT_TYPE`].

use super::reply::Malformed;
use bytes::{Bytes, BytesMut};
use memchr::memmem;

/// The content type of an answer that begins with a prelude.
pub const CONTENT_TYPE: &str = "application/vnd.awslambda.http-integration-response";

/// What ends the prelude.
const END: [u8; 8] = [0; 8];

/// The longest prelude. Response headers may take 16 KiB on Lambda; this leaves room for cookies.
const LIMIT: usize = 64 * 1024;

/// Collects the prelude from chunks that may split it anywhere.
#[derive(Default)]
pub struct Prelude {
    collected: BytesMut,
}

impl Prelude {
    /// Takes one chunk; when the prelude is complete, its JSON and the first bytes of the body.
    pub fn feed(&mut self, chunk: &[u8]) -> Result<Option<(Bytes, Bytes)>, Malformed> {
        // The end may have begun in the chunk before.
        let from = self.collected.len().saturating_sub(END.len() - 1);
        self.collected.extend_from_slice(chunk);
        let Some(at) = memmem::find(&self.collected[from..], &END).map(|at| from + at) else {
            return match self.collected.len() <= LIMIT {
                true => Ok(None),
                false => {
                    Err(Malformed(format!("the prelude of the stream does not end within {LIMIT} bytes")))
                }
            };
        };
        let json = self.collected.split_to(at).freeze();
        let rest = std::mem::take(&mut self.collected).freeze().slice(END.len()..);
        Ok(Some((json, rest)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_prelude_is_found_wherever_the_chunks_are_split() {
        let stream = b"{\"statusCode\":201}\0\0\0\0\0\0\0\0body\0with\0nul";
        for chunk_len in 1..=stream.len() {
            let mut prelude = Prelude::default();
            let mut chunks = stream.chunks(chunk_len);
            let (json, first) = chunks.find_map(|chunk| prelude.feed(chunk).unwrap()).unwrap();
            let body = [first.to_vec(), chunks.flatten().copied().collect()].concat();
            assert_eq!(
                (&json[..], &body[..]),
                (&b"{\"statusCode\":201}"[..], &b"body\0with\0nul"[..]),
                "{chunk_len}"
            );
        }
    }

    #[test]
    fn a_prelude_without_end_is_given_up() {
        let mut prelude = Prelude::default();
        assert!((0..=64).any(|_| prelude.feed(&[b' '; 1024]).is_err()));
    }
}
