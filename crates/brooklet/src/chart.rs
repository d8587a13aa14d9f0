//! A scatter of few named points in series: as text for the terminal, as SVG for a page. The vertical axis is logarithmic.

use std::fmt::Write;

/// Points that belong together, joined by a line.
pub struct Series {
    /// What they are.
    pub name: &'static str,
    /// How each is drawn in text.
    pub mark: char,
    /// A colour of SVG.
    pub colour: &'static str,
    /// Label, x, y; in order of x.
    pub points: Vec<(String, f64, f64)>,
}

/// A chart.
pub struct Chart {
    /// What is shown.
    pub title: String,
    /// What the horizontal axis is.
    pub x: &'static str,
    /// What the vertical axis is.
    pub y: &'static str,
    /// The points.
    pub series: Vec<Series>,
}

/// Where values lie on an axis: 0 to 1.
struct Axis {
    least: f64,
    most: f64,
}

impl Axis {
    fn over(values: impl Iterator<Item = f64>) -> Axis {
        let (least, most) = values.fold((f64::MAX, f64::MIN), |(a, b), value| (a.min(value), b.max(value)));
        let margin = ((most - least) * 0.06).max(most.abs() * 1e-3).max(1e-6);
        Axis { least: least - margin, most: most + margin }
    }

    fn place(&self, value: f64) -> f64 {
        (value - self.least) / (self.most - self.least)
    }
}

/// A number for people: `1.36 M`, `3.4 k`, `12`.
pub fn short(value: f64) -> String {
    for (scale, unit) in [(1e9, " G"), (1e6, " M"), (1e3, " k")] {
        if value >= scale * 0.9995 {
            let value = value / scale;
            let digits = if value < 9.995 {
                2
            } else if value < 99.95 {
                1
            } else {
                0
            };
            return format!("{value:.digits$}{unit}");
        }
    }
    if value < 9.95 && value.fract() > 0.0 { format!("{value:.2}") } else { format!("{value:.0}") }
}

/// Cold starts can be none at all: that is drawn at a half.
fn log(value: f64) -> f64 {
    value.max(0.5).log10()
}

impl Chart {
    fn axes(&self) -> (Axis, Axis) {
        let points = || self.series.iter().flat_map(|series| &series.points);
        (Axis::over(points().map(|point| point.1)), Axis::over(points().map(|point| log(point.2))))
    }

    /// As text, so many columns wide and lines high, with axes beside.
    pub fn text(&self, width: usize, height: usize) -> String {
        let (across, up) = self.axes();
        let mut cells = vec![vec![' '; width]; height];
        for series in &self.series {
            for (_, x, y) in &series.points {
                let column = (across.place(*x) * (width - 1) as f64).round() as usize;
                let row = ((1.0 - up.place(log(*y))) * (height - 1) as f64).round() as usize;
                cells[row][column] = series.mark;
            }
        }
        let mut text = format!("{} (logarithmic)\n", self.y);
        for (row, line) in cells.iter().enumerate() {
            let share = 1.0 - row as f64 / (height - 1) as f64;
            let value = 10f64.powf(up.least + (up.most - up.least) * share);
            let label = if row % 4 == 0 || row == height - 1 { short(value) } else { String::new() };
            let line: String = line.iter().collect();
            let _ = writeln!(text, "{label:>8} │{}", line.trim_end());
        }
        let _ = writeln!(text, "{:>8} └{}", "", "─".repeat(width));
        let (least, most) = (short(across.least.max(0.0)), short(across.most));
        let gap = width.saturating_sub(least.chars().count() + most.chars().count());
        let _ = writeln!(text, "{:>10}{least}{}{most}", "", " ".repeat(gap));
        let marks = self.series.iter().filter(|series| !series.points.is_empty());
        let marks: Vec<String> = marks.map(|series| format!("{} {}", series.mark, series.name)).collect();
        let _ = write!(text, "{:>10}{}; {}", "", self.x, marks.join(", "));
        text
    }

    /// As a picture that needs nothing else.
    pub fn svg(&self) -> String {
        const WIDTH: f64 = 760.0;
        const HEIGHT: f64 = 480.0;
        const LEFT: f64 = 80.0;
        const RIGHT: f64 = 30.0;
        const TOP: f64 = 50.0;
        const BOTTOM: f64 = 60.0;
        let (across, up) = self.axes();
        let x_of = |value: f64| LEFT + across.place(value) * (WIDTH - LEFT - RIGHT);
        let y_of = |value: f64| TOP + (1.0 - up.place(log(value))) * (HEIGHT - TOP - BOTTOM);
        let (right, bottom) = (WIDTH - RIGHT, HEIGHT - BOTTOM);
        let mut svg = format!(
            "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {HEIGHT}\" font-family=\"sans-serif\" font-size=\"12\">\n\
             <rect width=\"{WIDTH}\" height=\"{HEIGHT}\" fill=\"white\"/>\n\
             <text x=\"{LEFT}\" y=\"24\" font-size=\"15\">{}</text>\n",
            escape(&self.title)
        );
        for (value, place) in ticks(across.least.max(0.0), across.most).map(|value| (value, x_of(value))) {
            let _ = writeln!(
                svg,
                "<path d=\"M{place:.1} {TOP}V{bottom}\" stroke=\"#eee\"/><text x=\"{place:.1}\" y=\"{:.1}\" text-anchor=\"middle\">{}</text>",
                bottom + 18.0,
                short(value)
            );
        }
        for (value, place) in decades(up.least, up.most).map(|value| (value, y_of(value))) {
            let _ = writeln!(
                svg,
                "<path d=\"M{LEFT} {place:.1}H{right}\" stroke=\"#eee\"/><text x=\"{:.1}\" y=\"{:.1}\" text-anchor=\"end\">{}</text>",
                LEFT - 8.0,
                place + 4.0,
                short(value)
            );
        }
        let _ = writeln!(
            svg,
            "<path d=\"M{LEFT} {TOP}V{bottom}H{right}\" stroke=\"black\" fill=\"none\"/>\n\
             <text x=\"{:.1}\" y=\"{:.1}\" text-anchor=\"middle\">{}</text>\n\
             <text transform=\"translate(20 {:.1}) rotate(-90)\" text-anchor=\"middle\">{} (logarithmic)</text>",
            (LEFT + right) / 2.0,
            HEIGHT - 16.0,
            escape(self.x),
            (TOP + bottom) / 2.0,
            escape(self.y),
        );
        // Labels of series that lie close together are beside different corners of their points.
        let corners = [(7.0, -6.0, "start"), (7.0, 16.0, "start"), (-7.0, 15.0, "end")];
        for (series, (right, down, anchor)) in self.series.iter().zip(corners.into_iter().cycle()) {
            let colour = series.colour;
            let places: Vec<_> = series.points.iter().map(|(_, x, y)| (x_of(*x), y_of(*y))).collect();
            let line: Vec<String> = places.iter().map(|(x, y)| format!("{x:.1},{y:.1}")).collect();
            let _ =
                writeln!(svg, "<polyline points=\"{}\" fill=\"none\" stroke=\"{colour}\"/>", line.join(" "));
            for ((label, x, y), (left, top)) in series.points.iter().zip(places) {
                let _ = writeln!(
                    svg,
                    "<circle cx=\"{left:.1}\" cy=\"{top:.1}\" r=\"4\" fill=\"{colour}\"><title>{}: {} cold starts, {} GB-s idle</title></circle>\
                     <text x=\"{:.1}\" y=\"{:.1}\" text-anchor=\"{anchor}\" fill=\"{colour}\">{}</text>",
                    escape(label),
                    short(*y),
                    short(*x),
                    left + right,
                    top + down,
                    escape(label),
                );
            }
        }
        svg + "</svg>\n"
    }
}

/// Some five round values between two.
fn ticks(least: f64, most: f64) -> impl Iterator<Item = f64> {
    let rough = ((most - least) / 5.0).max(f64::MIN_POSITIVE);
    let power = 10f64.powf(rough.log10().floor());
    let step = [1.0, 2.0, 5.0, 10.0]
        .map(|step| step * power)
        .into_iter()
        .find(|&step| step >= rough)
        .unwrap_or(rough);
    let first = (least / step).ceil() as u64;
    (first..first + 12).map(move |number| number as f64 * step).take_while(move |&value| value <= most)
}

/// One, two and five of each decade between two powers of ten.
fn decades(least: f64, most: f64) -> impl Iterator<Item = f64> {
    let powers = least.floor() as i32..=most.ceil() as i32;
    let all = powers.flat_map(|power| [1.0, 2.0, 5.0].map(|step| step * 10f64.powi(power)));
    all.filter(move |value| (least..=most).contains(&value.log10()))
}

fn escape(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn chart() -> Chart {
        let points = |points: &[(&str, f64, f64)]| {
            points.iter().map(|&(label, x, y)| (label.to_string(), x, y)).collect()
        };
        Chart {
            title: "a < b".into(),
            x: "idle",
            y: "cold",
            series: vec![
                Series {
                    name: "one",
                    mark: 'o',
                    colour: "gray",
                    points: points(&[("o 1", 0.0, 1_000.0), ("o 2", 100.0, 1.0)]),
                },
                Series { name: "two", mark: '*', colour: "red", points: points(&[("* 1", 50.0, 0.0)]) },
            ],
        }
    }

    #[test]
    fn text_shows_every_point_at_its_place() {
        insta::assert_snapshot!(chart().text(30, 9));
    }

    #[test]
    fn a_picture_is_whole_and_escapes_its_words() {
        let svg = chart().svg();
        assert!(svg.starts_with("<svg") && svg.ends_with("</svg>\n") && svg.contains("a &lt; b"), "{svg}");
        assert_eq!(svg.matches("<circle").count(), 3);
        assert!(!svg.contains("NaN") && !svg.contains("href"), "{svg}");
    }

    #[test]
    fn numbers_are_short() {
        let all = [0.0, 0.5, 7.0, 123.0, 3_425.0, 99_960.0, 1_362_735.0].map(short);
        assert_eq!(all, ["0", "0.50", "7", "123", "3.42 k", "100 k", "1.36 M"]);
    }
}
