//! What users read: tables and prices.

use std::io::{self, Write};

use standpipe_extensions::osb::event::Cost;

use super::super::table::printable;

/// Rows between bars, columns as wide as their widest cell.
pub(super) fn table<const COLUMNS: usize>(
    out: &mut dyn Write,
    head: [&str; COLUMNS],
    rows: &[[&str; COLUMNS]],
) -> io::Result<()> {
    let head = head.map(str::to_owned);
    let rows: Vec<[String; COLUMNS]> =
        rows.iter().map(|row| row.map(|cell| printable(cell).into_owned())).collect();
    let mut widths = [0; COLUMNS];
    for row in std::iter::once(&head).chain(&rows) {
        widths.iter_mut().zip(row).for_each(|(width, cell)| *width = (*width).max(cell.chars().count()));
    }
    line(out, &head, &widths)?;
    writeln!(out, "+{}+", widths.map(|width| "-".repeat(width + 2)).join("|"))?;
    rows.iter().try_for_each(|row| line(out, row, &widths))
}

fn line(out: &mut dyn Write, cells: &[String], widths: &[usize]) -> io::Result<()> {
    let padded = cells.iter().zip(widths).map(|(cell, width)| format!(" {cell:width$} "));
    writeln!(out, "|{}|", padded.collect::<Vec<_>>().join("|"))
}

/// `$0.06/hour`, with the digits the broker wrote; currencies other than US dollars by their codes. `None`: it costs nothing
/// that anybody has told.
pub(super) fn price(costs: &[Cost]) -> Option<String> {
    let of_one = |cost: &Cost| {
        let unit = match cost.unit.to_ascii_lowercase().as_str() {
            "hourly" => "hour".to_owned(),
            "daily" => "day".to_owned(),
            "weekly" => "week".to_owned(),
            "monthly" => "month".to_owned(),
            "yearly" | "annually" => "year".to_owned(),
            _ => printable(&cost.unit).into_owned(),
        };
        let amount = |(currency, amount): (&String, &serde_json::Number)| match currency.as_str() {
            "usd" | "USD" => format!("${amount}/{unit}"),
            other => format!("{amount} {}/{unit}", printable(&other.to_uppercase())),
        };
        cost.amount.iter().map(amount).collect::<Vec<_>>().join(" or ")
    };
    let texts: Vec<String> = costs.iter().map(of_one).filter(|text| !text.is_empty()).collect();
    (!texts.is_empty()).then(|| texts.join(" and "))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_is_as_in_the_seed() {
        let mut out = Vec::new();
        let rows = [["mysql", "free"], ["postgresql", "free"], ["amazon-rds-postgresql", "medium"]];
        table(&mut out, ["Name", "Plan"], &rows).unwrap();
        let expected = "\
| Name                  | Plan   |
+-----------------------|--------+
| mysql                 | free   |
| postgresql            | free   |
| amazon-rds-postgresql | medium |
";
        assert_eq!(String::from_utf8(out).unwrap(), expected);
    }

    #[test]
    fn prices_keep_their_digits() {
        let of = |text: &str| price(&serde_json::from_str::<Vec<Cost>>(text).unwrap());
        assert_eq!(of("[]"), None);
        assert_eq!(of(r#"[{"amount":{},"unit":"HOURLY"}]"#), None);
        assert_eq!(of(r#"[{"amount":{"usd":0.060},"unit":"HOURLY"}]"#).unwrap(), "$0.060/hour");
        assert_eq!(
            of(r#"[{"amount":{"eur":5,"usd":6.50},"unit":"MONTHLY"},{"amount":{"usd":0.99},"unit":"1GB over 20GB"}]"#).unwrap(),
            "5 EUR/month or $6.50/month and $0.99/1GB over 20GB"
        );
    }
}
