//! Quantity: Kubernetes' fixed-point numbers with decimal, binary and exponent suffixes.
use std::cmp::Ordering;
use std::fmt;

/// How a quantity was written, and so how it is printed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    DecimalSi,
    BinarySi,
    DecimalExponent,
}

/// An exact number of nano-units (upstream's smallest) with the format it was written in.
#[derive(Clone, Copy, Debug)]
pub struct Quantity {
    nanos: i128,
    format: Format,
}

const NANO: i128 = 1_000_000_000;
const MESSAGE: &str = "quantities must match the regular expression '^([+-]?[0-9.]+)([eEinumkKMGTP]*[-+]?[0-9]*)$'";

impl Quantity {
    pub const ZERO: Self = Self { nanos: 0, format: Format::DecimalSi };

    pub fn parse(text: &str) -> Result<Self, &'static str> {
        let number_end =
            text.char_indices().find(|(i, c)| !(c.is_ascii_digit() || *c == '.' || (*i == 0 && (*c == '+' || *c == '-')))).map_or(text.len(), |(i, _)| i);
        let (number, suffix) = text.split_at(number_end);
        let (negative, digits) = match number.as_bytes().first() {
            Some(b'-') => (true, &number[1..]),
            Some(b'+') => (false, &number[1..]),
            _ => (false, number),
        };
        let (whole, fraction) = digits.split_once('.').unwrap_or((digits, ""));
        if (whole.is_empty() && fraction.is_empty()) || fraction.contains('.') {
            return Err(MESSAGE);
        }
        let (format, binary_shift, exponent) = match suffix {
            "" => (Format::DecimalSi, 0, 0),
            "n" => (Format::DecimalSi, 0, -9),
            "u" => (Format::DecimalSi, 0, -6),
            "m" => (Format::DecimalSi, 0, -3),
            "k" => (Format::DecimalSi, 0, 3),
            "M" => (Format::DecimalSi, 0, 6),
            "G" => (Format::DecimalSi, 0, 9),
            "T" => (Format::DecimalSi, 0, 12),
            "P" => (Format::DecimalSi, 0, 15),
            "E" => (Format::DecimalSi, 0, 18),
            "Ki" => (Format::BinarySi, 10, 0),
            "Mi" => (Format::BinarySi, 20, 0),
            "Gi" => (Format::BinarySi, 30, 0),
            "Ti" => (Format::BinarySi, 40, 0),
            "Pi" => (Format::BinarySi, 50, 0),
            "Ei" => (Format::BinarySi, 60, 0),
            _ => match suffix.strip_prefix(['e', 'E']).and_then(|e| e.parse::<i32>().ok()) {
                Some(exponent) if exponent.abs() <= 40 => (Format::DecimalExponent, 0, exponent),
                _ => return Err(MESSAGE),
            },
        };
        // Digits as one integer, scaled by 10^(9 + exponent - fraction digits); saturates as upstream caps at 2^63-1.
        let mut value: i128 = 0;
        for digit in whole.bytes() {
            value = value.saturating_mul(10).saturating_add(i128::from(digit - b'0'));
        }
        // Digits of a fraction count as long as there is room for them; of the others only whether they are nothing.
        let (mut taken, mut more) = (0, false);
        for digit in fraction.bytes() {
            if value < (i128::MAX >> binary_shift) / 10 - 1 {
                value = value * 10 + i128::from(digit - b'0');
                taken += 1;
            } else {
                more |= digit != b'0';
            }
        }
        let scale = 9 + exponent - taken;
        let shifted = value.saturating_mul(1i128 << binary_shift);
        let nanos = if scale >= 0 {
            shifted.saturating_mul(10i128.checked_pow(scale as u32).unwrap_or(i128::MAX))
        } else {
            // Finer than a nano rounds up, away from zero.
            let up = |rest: i128| i128::from(rest != 0 || more);
            10i128.checked_pow(scale.unsigned_abs()).map_or(up(shifted), |by| shifted / by + up(shifted % by))
        };
        let nanos = nanos.min(i128::from(i64::MAX) * NANO);
        Ok(Self { nanos: if negative { -nanos } else { nanos }, format })
    }

    pub fn from_units(units: i64) -> Self {
        Self { nanos: i128::from(units) * NANO, format: Format::DecimalSi }
    }
    pub fn from_millis(millis: i64) -> Self {
        Self { nanos: i128::from(millis) * 1_000_000, format: Format::DecimalSi }
    }
    pub fn from_bytes(bytes: i64) -> Self {
        Self { nanos: i128::from(bytes) * NANO, format: Format::BinarySi }
    }
    /// Whole units, rounded up.
    pub fn units(&self) -> i64 {
        div_up(self.nanos, NANO)
    }
    /// Thousandths, rounded up.
    pub fn millis(&self) -> i64 {
        div_up(self.nanos, 1_000_000)
    }
    pub fn is_zero(&self) -> bool {
        self.nanos == 0
    }
    pub fn is_negative(&self) -> bool {
        self.nanos < 0
    }
    pub fn format(&self) -> Format {
        self.format
    }
    /// Whether it is a whole number of units.
    pub fn is_integer(&self) -> bool {
        self.nanos % NANO == 0
    }
}

fn div_up(value: i128, by: i128) -> i64 {
    let rounded = if value >= 0 { (value + by - 1) / by } else { value / by };
    i64::try_from(rounded).unwrap_or(if rounded > 0 { i64::MAX } else { i64::MIN })
}

impl PartialEq for Quantity {
    fn eq(&self, other: &Self) -> bool {
        self.nanos == other.nanos
    }
}
impl Eq for Quantity {}
impl PartialOrd for Quantity {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}
impl Ord for Quantity {
    fn cmp(&self, other: &Self) -> Ordering {
        self.nanos.cmp(&other.nanos)
    }
}
impl std::ops::Add for Quantity {
    type Output = Self;
    fn add(self, other: Self) -> Self {
        Self { nanos: self.nanos.saturating_add(other.nanos), format: if self.nanos == 0 { other.format } else { self.format } }
    }
}
impl std::ops::Sub for Quantity {
    type Output = Self;
    fn sub(self, other: Self) -> Self {
        Self { nanos: self.nanos.saturating_sub(other.nanos), format: if self.nanos == 0 { other.format } else { self.format } }
    }
}

impl fmt::Display for Quantity {
    /// The canonical form: the largest suffix that keeps the number whole.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.nanos == 0 {
            return f.write_str("0");
        }
        let magnitude = self.nanos.unsigned_abs();
        let sign = if self.nanos < 0 { "-" } else { "" };
        if self.format == Format::BinarySi && magnitude.is_multiple_of(NANO as u128) && magnitude >= 1024 * NANO as u128 {
            let mut units = magnitude / NANO as u128;
            let mut suffix = 0;
            while units.is_multiple_of(1024) && suffix < 6 {
                units /= 1024;
                suffix += 1;
            }
            return write!(f, "{sign}{units}{}", ["", "Ki", "Mi", "Gi", "Ti", "Pi", "Ei"][suffix]);
        }
        let (mut value, mut power) = (magnitude, -9i32);
        while value.is_multiple_of(1000) && power < 18 {
            value /= 1000;
            power += 3;
        }
        if self.format == Format::DecimalExponent {
            return if power == 0 { write!(f, "{sign}{value}") } else { write!(f, "{sign}{value}e{power}") };
        }
        let suffix = ["n", "u", "m", "", "k", "M", "G", "T", "P", "E"][((power + 9) / 3) as usize];
        write!(f, "{sign}{value}{suffix}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn canonical_forms() {
        for (input, want) in [
            ("0", "0"),
            ("1", "1"),
            ("100m", "100m"),
            ("1000m", "1"),
            ("1.5", "1500m"),
            ("0.5Gi", "512Mi"),
            ("1024Mi", "1Gi"),
            ("1536Mi", "1536Mi"),
            ("1e3", "1e3"),
            ("12e6", "12e6"),
            ("1000", "1k"),
            ("128974848", "128974848"),
            ("-1.5Ki", "-1536"),
            ("1Ei", "1Ei"),
            ("0.1Ki", "102400m"),
            ("5u", "5u"),
        ] {
            assert_eq!(Quantity::parse(input).unwrap().to_string(), want, "{input}");
        }
        for bad in ["", "x", "1.2.3", "1Kii", "1e", "--1", "1 Gi", "."] {
            assert!(Quantity::parse(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn numbers_of_any_length_are_read() {
        for (input, want) in [
            ("99999999999000000000100000.000000001199999999999k", "9223372036854775807"),
            ("1.0000000000000000000000000000000000000000000000000", "1"),
            ("0.5000000000000000000000000000000000000000000000001Gi", "536870912000000001n"),
            ("0.0000000000000000000000000000000000000000000000001", "1n"),
            ("00000000000000000000000000000000000000000000000001", "1"),
        ] {
            assert_eq!(Quantity::parse(input).unwrap().to_string(), want, "{input}");
        }
    }

    #[test]
    fn numbers_compare_across_formats() {
        let q = |t| Quantity::parse(t).unwrap();
        assert_eq!(q("1Ki"), q("1024"));
        assert!(q("1G") < q("1Gi"));
        assert_eq!(q("1500m").units(), 2);
        assert_eq!(q("2").millis(), 2000);
        assert_eq!((q("1Gi") - q("512Mi")).to_string(), "512Mi");
    }
}
