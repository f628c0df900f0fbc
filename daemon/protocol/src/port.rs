//! A TCP port that can be asked for: never 0.

use core::fmt;
use core::num::NonZeroU16;
use core::str::FromStr;

/// A TCP port number, 1 to 65535. Port 0 ("any port") is not a port and cannot be represented.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[cfg_attr(feature = "api", derive(serde::Serialize, serde::Deserialize))]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[cfg_attr(feature = "api", serde(transparent))]
pub struct Port(NonZeroU16);

impl Port {
    /// The port with this number, or `None` for 0.
    pub const fn new(number: u16) -> Option<Self> {
        match NonZeroU16::new(number) {
            Some(number) => Some(Self(number)),
            None => None,
        }
    }

    /// The number, 1 to 65535.
    pub const fn get(self) -> u16 {
        self.0.get()
    }

    /// Whether binding it needs a privilege on Linux by default (below 1024).
    pub const fn is_privileged(self) -> bool {
        self.get() < 1024
    }
}

impl fmt::Display for Port {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl fmt::Debug for Port {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// Why a text is not a port.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PortError;

impl fmt::Display for PortError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("not a port number from 1 to 65535")
    }
}

impl core::error::Error for PortError {}

impl FromStr for Port {
    type Err = PortError;

    /// Accepts decimal digits only: `8000`, not `+8000`, ` 8000` or `8e3`.
    fn from_str(text: &str) -> Result<Self, PortError> {
        if !text.bytes().all(|byte| byte.is_ascii_digit()) {
            return Err(PortError);
        }
        text.parse::<u16>()
            .ok()
            .and_then(Self::new)
            .ok_or(PortError)
    }
}

impl From<Port> for u16 {
    fn from(port: Port) -> Self {
        port.get()
    }
}

#[cfg(all(test, feature = "api"))]
mod tests {
    use super::*;

    #[test]
    fn only_decimal_numbers_from_1_to_65535_are_ports() {
        for (text, number) in [("1", 1), ("8000", 8000), ("65535", 65535), ("0080", 80)] {
            assert_eq!(text.parse::<Port>().map(Port::get), Ok(number), "{text:?}");
        }
        for text in [
            "", "0", "65536", "70000", "-1", "+80", " 80", "80 ", "8e3", "0x50", "٣",
        ] {
            assert_eq!(text.parse::<Port>(), Err(PortError), "{text:?}");
        }
    }
}
