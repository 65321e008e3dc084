//! Two kinds of figures: bars beside their names, in panels, and curves with a logarithmic height.

use super::svg::{Anchor, Svg};

const WIDTH: f64 = 720.0;
const ROW: f64 = 18.0;
const NAMES: f64 = 190.0;
const VALUES: f64 = 110.0;
const HEAD: f64 = 30.0;

#[derive(Clone, Debug)]
pub struct Bar {
    pub name: String,
    pub value: f64,
    pub shown: String,
    pub color: &'static str,
}

/// Bars that can be compared with each other, and not with those of another panel.
#[derive(Clone, Debug)]
pub struct Panel {
    pub title: String,
    pub bars: Vec<Bar>,
}

pub fn panels(panels: &[Panel]) -> String {
    let n_rows: usize = panels.iter().map(|panel| panel.bars.len()).sum();
    let mut svg = Svg::new(WIDTH, n_rows as f64 * ROW + panels.len() as f64 * 2.0 * HEAD);
    let mut y = 0.0;
    for panel in panels {
        svg.text((10.0, y + 20.0), Anchor::Start, &panel.title);
        y += HEAD;
        let most = panel.bars.iter().map(|bar| bar.value).fold(f64::MIN_POSITIVE, f64::max);
        for bar in &panel.bars {
            let width = (bar.value / most).max(0.0) * (WIDTH - NAMES - VALUES);
            svg.text((NAMES - 8.0, y + 13.0), Anchor::End, &bar.name);
            svg.bar((NAMES, y + 2.0), width, ROW - 4.0, bar.color);
            svg.text((NAMES + width + 6.0, y + 13.0), Anchor::Start, &bar.shown);
            y += ROW;
        }
        y += HEAD;
    }
    svg.finish()
}

#[derive(Clone, Debug)]
pub struct Curve {
    pub name: String,
    /// One for each mark, or fewer.
    pub values: Vec<f64>,
    pub color: &'static str,
}

/// Curves over marks that are the same distance apart.
pub fn curves(title: &str, marks: &[String], curves: &[Curve]) -> String {
    let (height, left, right, top, bottom) = (420.0, 70.0, 190.0, 40.0, 40.0);
    let values = || curves.iter().flat_map(|curve| &curve.values).copied().filter(|value| *value > 0.0);
    let lowest = values().fold(f64::INFINITY, f64::min).log10().floor();
    let highest = values().fold(0.0, f64::max).log10().ceil().max(lowest + 1.0);
    let mut svg = Svg::new(WIDTH, height);
    svg.text((10.0, 20.0), Anchor::Start, title);
    if !lowest.is_finite() || !highest.is_finite() {
        return svg.finish();
    }
    let x = |mark: usize| left + mark as f64 / (marks.len().max(2) - 1) as f64 * (WIDTH - left - right);
    let y = |value: f64| {
        let part = (value.max(f64::MIN_POSITIVE).log10() - lowest) / (highest - lowest);
        height - bottom - part.clamp(0.0, 1.0) * (height - top - bottom)
    };
    for power in lowest as i32..=highest as i32 {
        let value = 10_f64.powi(power);
        svg.line(&[(left, y(value)), (WIDTH - right, y(value))], "#ddd", 1.0);
        svg.text((left - 6.0, y(value) + 4.0), Anchor::End, &grouped(value));
    }
    for (mark, name) in marks.iter().enumerate() {
        svg.text((x(mark), height - bottom + 20.0), Anchor::Middle, name);
    }
    // The names beside the ends of their curves, far enough apart to be read.
    let mut names: Vec<(f64, &Curve)> =
        curves.iter().filter_map(|curve| Some((y(*curve.values.last()?), curve))).collect();
    names.sort_unstable_by(|one, other| one.0.total_cmp(&other.0));
    let mut free = top;
    for (end, curve) in names {
        let points: Vec<_> = curve.values.iter().enumerate().map(|(mark, value)| (x(mark), y(*value))).collect();
        svg.line(&points, curve.color, 2.0);
        let at = end.max(free);
        free = at + 15.0;
        svg.colored_text((WIDTH - right + 8.0, at + 4.0), Anchor::Start, &curve.name, curve.color);
    }
    svg.finish()
}

/// A number in groups of three digits; below ten, with two places.
pub fn grouped(value: f64) -> String {
    if value < 10.0 && value.fract() != 0.0 {
        return format!("{value:.2}");
    }
    let digits = format!("{value:.0}");
    let mut text = String::new();
    for (n, digit) in digits.chars().enumerate() {
        if n > 0 && (digits.len() - n).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn large_numbers_are_grouped_and_small_ones_have_places() {
        let texts = [1_234_567.4, 1000.0, 999.0, 10.5, 1.5, 2.0, 0.25].map(grouped);
        assert_eq!(texts, ["1,234,567", "1,000", "999", "10", "1.50", "2", "0.25"]);
    }

    #[test]
    fn figures_of_nothing_are_figures() {
        assert!(panels(&[]).ends_with("</svg>\n"));
        assert!(curves("none", &[], &[]).ends_with("</svg>\n"));
        let flat = Curve { name: "flat".into(), values: vec![5.0, 5.0], color: "#000" };
        let text = curves("flat", &["a".into(), "b".into()], &[flat]);
        assert!(!text.contains("NaN") && !text.contains("inf"), "{text}");
    }
}
