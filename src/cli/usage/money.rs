//! Prices times lifetimes, without rounding before the end: no binary fraction, one division.

use std::ops::AddAssign;
use std::time::Duration;

use serde_json::Number;

/// Digits of a price behind its point.
const SCALE: u32 = 12;
/// Digits of what is printed behind its point: at least, and at most.
const SHOWN: (usize, usize) = (2, 6);
/// Hours into which those of every unit divide: of a day, a week, a month of 730 and a year of 8760 (12 such months).
const COMMON: i128 = 61_320;
const MILLIS_PER_HOUR: i128 = 3_600_000;

/// The hours of a unit of time, by its name in `metadata.costs`.
pub(super) fn hours(unit: &str) -> Option<i128> {
    const UNITS: [(&str, i128); 5] =
        [("HOURLY", 1), ("DAILY", 24), ("WEEKLY", 168), ("MONTHLY", 730), ("YEARLY", 8760)];
    UNITS.iter().find(|(name, _)| name.eq_ignore_ascii_case(unit.trim())).map(|(_, hours)| *hours)
}

/// An exact amount of money: a whole number of 10^-12 of the currency, times milliseconds, by the hour's milliseconds and
/// the common hours.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Money(i128);

impl Money {
    /// A price for so many hours, paid for a span. `None`: it has more than 12 digits behind its point, or is too large to
    /// be counted exactly.
    pub(super) fn of(price: &Number, hours: i128, span: Duration) -> Option<Self> {
        let millis = i128::try_from(span.as_millis()).ok()?;
        decimal(price.as_str())?.checked_mul(millis)?.checked_mul(COMMON / hours).map(Self)
    }

    /// As a decimal, rounded half away from zero.
    pub(super) fn shown(self) -> String {
        let (least, most) = SHOWN;
        let unit = MILLIS_PER_HOUR * COMMON * 10_i128.pow(SCALE - most as u32);
        let (whole, rest) = (self.0 / unit, self.0 % unit);
        let rounded = whole + if rest.abs() * 2 >= unit { self.0.signum() } else { 0 };
        let digits = format!("{:0width$}", rounded.abs(), width = most + 1);
        let (before, behind) = digits.split_at(digits.len() - most);
        let kept = behind.trim_end_matches('0').len().max(least);
        let sign = if rounded < 0 { "-" } else { "" };
        format!("{sign}{before}.{}", behind.get(..kept).unwrap_or(behind))
    }
}

impl AddAssign for Money {
    /// Sums stay far below the largest number: one that would not ends there.
    fn add_assign(&mut self, other: Self) {
        self.0 = self.0.saturating_add(other.0);
    }
}

/// A JSON number as a whole number of 10^-12.
fn decimal(text: &str) -> Option<i128> {
    let (digits, exponent) = text.split_once(['e', 'E']).unwrap_or((text, "0"));
    let exponent: i32 = exponent.parse().ok()?;
    let (sign, digits) = digits.strip_prefix('-').map_or((1, digits), |digits| (-1, digits));
    let (whole, behind) = digits.split_once('.').unwrap_or((digits, ""));
    let behind = behind.trim_end_matches('0');
    let mantissa: i128 = format!("{whole}{behind}").parse().ok()?;
    if mantissa == 0 {
        return Some(0);
    }
    let shift = exponent.checked_sub(i32::try_from(behind.len()).ok()?)?.checked_add(SCALE as i32)?;
    let shift = u32::try_from(shift).ok()?;
    mantissa.checked_mul(10_i128.checked_pow(shift)?)?.checked_mul(sign)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn number(text: &str) -> Number {
        serde_json::from_str(text).unwrap()
    }

    fn cost(price: &str, unit: &str, hours_lived: u64) -> String {
        let money = Money::of(&number(price), hours(unit).unwrap(), Duration::from_secs(hours_lived * 3600));
        money.unwrap().shown()
    }

    #[test]
    fn a_price_counts_for_its_unit() {
        assert_eq!(cost("0.06", "HOURLY", 10), "0.60");
        assert_eq!(cost("24", "DAILY", 1), "1.00");
        assert_eq!(cost("1.68", "weekly", 100), "1.00");
        assert_eq!(cost("99.0", "MONTHLY", 730), "99.00");
        assert_eq!(cost("87.60", "YEARLY", 1), "0.01");
        assert_eq!(cost("100", "MONTHLY", 1), "0.136986", "100 / 730 = 0.13698630...");
        assert_eq!(cost("-1e-1", "HOURLY", 5), "-0.50");
        assert_eq!(hours("1GB of messages over 20GB"), None);
    }

    #[test]
    fn many_small_amounts_add_up_to_the_whole() {
        let mut sum = Money::default();
        for _ in 0..730 * 60 {
            sum += Money::of(&number("0.1"), 730, Duration::from_secs(60)).unwrap();
        }
        assert_eq!(sum.shown(), "0.10", "neither the thirds of a month nor the tenth of a coin were rounded");
    }

    #[test]
    fn what_cannot_be_counted_exactly_is_not_counted() {
        let counted = |price| Money::of(&number(price), 1, Duration::from_secs(1)).is_some();
        assert!(counted("0.000000000001") && counted("0.0000000000010000") && counted("0e999999"));
        for price in ["0.0000000000001", "1e30", "1e99999999999", "1e-99999999999", &"9".repeat(60)] {
            assert!(!counted(price), "{price}");
        }
    }
}
