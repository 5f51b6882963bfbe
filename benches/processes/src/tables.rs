//! What is printed.

use crate::comparison::Comparison;

/// A table in Markdown: rows a second of every way, medians over the rounds.
pub fn ways(comparisons: &[Comparison]) -> String {
    let sizes = comparisons.first().map_or(&[][..], |first| first.sizes);
    let names: Vec<String> = sizes.iter().map(|size| format!("Fixed({size})")).collect();
    let mut table = format!(
        "| processes | nothing set, rows/s | {} |\n| --- | --- |{}\n",
        names.join(" | "),
        " --- |".repeat(names.len())
    );
    for comparison in comparisons {
        let rates = (0..sizes.len()).map(|place| format!("{:.0}", comparison.fixed_rate(place)));
        table += &format!(
            "| {} | {:.0} | {} |\n",
            comparison.processes,
            comparison.default_rate(),
            rates.collect::<Vec<_>>().join(" | ")
        );
    }
    table
}

/// A table in Markdown: the default policy of each number of processes.
pub fn summary(comparisons: &[Comparison]) -> String {
    let mut table = "\
| processes | rows/s, sum | of the best fixed size | Jain's index | sizes at the end | a late joiner has 0.8 of its share | its share at the end | failed rows | failed calls |
| --- | --- | --- | --- | --- | --- | --- | --- | --- |
"
    .to_owned();
    for comparison in comparisons {
        let (least, most) = comparison.sizes_at_end();
        let [reached, last] = match &comparison.joining {
            None => ["–".to_owned(), "–".to_owned()],
            Some(joining) => [
                joining.reached_s.map_or_else(
                    || format!("not within {:.0} s", joining.lasted_s),
                    |s| format!("after {s:.1} s"),
                ),
                format!(
                    "{:.2}, {:.0} s after its start",
                    joining.last_share, joining.lasted_s
                ),
            ],
        };
        let failed = comparison
            .accounts()
            .fold([0, 0], |[rows, calls], account| {
                [rows + account.failed_rows, calls + account.failed_calls]
            });
        table += &format!(
            "| {} | {:.0} | {:.2} of `Fixed({})` | {:.3} | {least} to {most} | {reached} | {last} | {} | {} |\n",
            comparison.processes,
            comparison.default_rate(),
            comparison.share(),
            comparison.sizes[comparison.best()],
            comparison.jain(),
            failed[0],
            failed[1],
        );
    }
    table
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::comparison::tests::comparison;
    use crate::joining::Joining;
    use crate::run::Account;

    #[test]
    fn each_way_has_its_median_in_its_own_column() {
        let two = comparison(&[(90.0, [50.0, 100.0]), (94.0, [52.0, 104.0])]);
        let table = ways(&[two]);
        assert!(
            table.contains("| nothing set, rows/s | Fixed(200) | Fixed(1000) |"),
            "{table}"
        );
        assert!(table.ends_with("| 2 | 92 | 51 | 102 |\n"), "{table}");
    }

    #[test]
    fn the_summary_says_of_which_size_and_whether_a_late_joiner_arrived() {
        let mut two = comparison(&[(95.0, [50.0, 100.0]), (95.0, [50.0, 100.0])]);
        let row = |comparison: &Comparison| {
            let table = summary(std::slice::from_ref(comparison));
            table.lines().last().unwrap().to_owned()
        };
        assert_eq!(
            row(&two),
            "| 2 | 95 | 0.95 of `Fixed(1000)` | 1.000 | 300 to 700 | – | – | 0 | 0 |"
        );
        let mut joining = Joining {
            lasted_s: 9.0,
            reached_s: Some(2.3),
            last_share: 0.97,
            account: Account {
                failed_calls: 2,
                ..Account::default()
            },
        };
        two.joining = Some(joining.clone());
        let shown = row(&two);
        assert!(
            shown.ends_with("| after 2.3 s | 0.97, 9 s after its start | 0 | 2 |"),
            "{shown}"
        );
        joining.reached_s = None;
        two.joining = Some(joining);
        assert!(row(&two).contains("| not within 9 s |"), "{}", row(&two));
    }
}
