//! A chunked body (RFC 9112, section 7.1), up to its last chunk.

use crate::listener::refused::Refusal;

/// Digits of a chunk's size.
const MOST_DIGITS: u8 = 16;
/// Bytes of a chunk's extensions, which nobody uses.
const MOST_EXTENSION: u16 = 256;

/// Where in a chunked body a connection is.
#[derive(Debug, Default)]
pub(super) struct Chunks {
    at: At,
    size: u64,
    digits: u8,
    extension: u16,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum At {
    #[default]
    Size,
    Extension,
    SizeLf,
    Data,
    DataCr,
    DataLf,
    Over,
}

impl Chunks {
    /// Whether the last chunk's line has been read; trailers follow.
    pub(super) fn is_over(&self) -> bool {
        self.at == At::Over
    }

    /// Takes some of the bytes, at least one.
    pub(super) fn step(&mut self, rest: &[u8]) -> Result<usize, Refusal> {
        if self.at == At::Data {
            let taken = usize::try_from(self.size).unwrap_or(usize::MAX).min(rest.len());
            self.size -= taken as u64;
            if self.size == 0 {
                self.at = At::DataCr;
            }
            return Ok(taken);
        }
        let byte = rest.first().copied().unwrap_or_default();
        self.at = match (self.at, byte) {
            (At::Size, b'\r') if self.digits > 0 => At::SizeLf,
            (At::Size, b';') if self.digits > 0 => At::Extension,
            (At::Size, digit) => self.digit(digit)?,
            (At::Extension, b'\r') => At::SizeLf,
            (At::Extension, byte) => self.extension(byte)?,
            (At::SizeLf, b'\n') => self.begin(),
            (At::DataCr, b'\r') => At::DataLf,
            (At::DataLf, b'\n') => At::Size,
            _ => return Err(Refusal::chunk("a chunk is not framed by CRLF")),
        };
        Ok(1)
    }

    fn digit(&mut self, byte: u8) -> Result<At, Refusal> {
        let digit = char::from(byte)
            .to_digit(16)
            .ok_or(Refusal::chunk("a chunk's size is not a hexadecimal number"))?;
        self.digits += 1;
        if self.digits > MOST_DIGITS {
            return Err(Refusal::chunk("a chunk's size is too large"));
        }
        self.size = (self.size << 4) | u64::from(digit);
        Ok(At::Size)
    }

    fn extension(&mut self, byte: u8) -> Result<At, Refusal> {
        self.extension += 1;
        if self.extension > MOST_EXTENSION || (byte.is_ascii_control() && byte != b'\t') {
            return Err(Refusal::chunk("a chunk's extension is too long or holds a control character"));
        }
        Ok(At::Extension)
    }

    fn begin(&mut self) -> At {
        self.digits = 0;
        self.extension = 0;
        if self.size == 0 { At::Over } else { At::Data }
    }
}
