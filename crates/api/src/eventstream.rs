//! `application/vnd.amazon.eventstream`: the binary framing of streamed AWS answers.
//!
//! A message is: total length, headers length (u32, big-endian), CRC-32 of these eight bytes, headers, payload,
//! CRC-32 of all before it. A header is: name length (u8), name, value type (7: string), value length (u16),
//! value. Source: <https://smithy.io/2.0/aws/amazon-eventstream.html>.

use bytes::{BufMut, Bytes, BytesMut};

/// The content type of an answer in this framing.
pub const CONTENT_TYPE: &str = "application/vnd.amazon.eventstream";

/// Value type of a string header.
const STRING: u8 = 7;

/// One event of this type. `payload` may be anything up to 16 MiB, which is the format's limit.
pub fn event(event_type: &str, content_type: &str, payload: &[u8]) -> Bytes {
    let headers = [(":event-type", event_type), (":content-type", content_type), (":message-type", "event")];
    message(&headers, payload)
}

/// One message with string headers.
fn message(headers: &[(&str, &str)], payload: &[u8]) -> Bytes {
    let headers_len: usize = headers.iter().map(|(name, value)| 1 + name.len() + 1 + 2 + value.len()).sum();
    let total = 12 + headers_len + payload.len() + 4;
    let mut out = BytesMut::with_capacity(total);
    out.put_u32(total as u32);
    out.put_u32(headers_len as u32);
    out.put_u32(crc32fast::hash(&out));
    for (name, value) in headers {
        out.put_u8(name.len() as u8);
        out.put_slice(name.as_bytes());
        out.put_u8(STRING);
        out.put_u16(value.len() as u16);
        out.put_slice(value.as_bytes());
    }
    out.put_slice(payload);
    out.put_u32(crc32fast::hash(&out));
    out.freeze()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hex(bytes: &[u8]) -> String {
        bytes.iter().map(|byte| format!("{byte:02x}")).collect()
    }

    #[test]
    fn an_empty_message_is_sixteen_bytes() {
        // A test vector of the format's specification.
        assert_eq!(hex(&message(&[], b"")), "000000100000000005c248eb7d98c8ff");
    }

    #[test]
    fn a_message_with_a_payload_has_the_checksums_of_the_specification() {
        let expected = "0000001d00000000fd528c5a7b27666f6f273a27626172277dc3653936";
        assert_eq!(hex(&message(&[], b"{'foo':'bar'}")), expected);
    }

    #[test]
    fn an_event_names_its_type_and_content() {
        let bytes = event("PayloadChunk", "application/octet-stream", b"hi");
        assert_eq!(u32::from_be_bytes(bytes[..4].try_into().unwrap()) as usize, bytes.len());
        let text = String::from_utf8_lossy(&bytes);
        assert!(text.contains("\x0b:event-type\x07\0\x0cPayloadChunk"), "{text:?}");
        assert!(text.contains("\x0d:content-type\x07\0\x18application/octet-stream"), "{text:?}");
        assert!(text.contains("\x0d:message-type\x07\0\x05eventhi"), "{text:?}");
    }
}
