//! The plots: requests answered and lost over time, a panel for each server; and ratios, a dot for each.

use plotters::prelude::*;
use plotters::style::text_anchor::{HPos, Pos, VPos};

use crate::Sum;

const WIDTH: u32 = 720;
const PANEL: u32 = 148;
const HEADING: i32 = 42;
/// Big enough to be read where the page is as narrow as a phone.
const FONT: (&str, u32) = ("sans-serif", 31);
/// The time that the plot shows, in seconds from the signal, and the width of a bar.
const TIME: std::ops::Range<f64> = -0.8..4.4;
const BIN: f64 = 0.1;

/// Stand-ins for the colours of the page, which plotters does not know.
const TEXT: RGBColor = RGBColor(1, 0, 0);
const ANSWERED: RGBColor = RGBColor(2, 0, 0);
const LOST: RGBColor = RGBColor(3, 0, 0);

fn hex(RGBColor(red, green, blue): RGBColor) -> String {
    format!("#{red:02X}{green:02X}{blue:02X}")
}

/// Draws a panel for each server, one below the other. Colours and fonts are the page's.
pub fn svg(panels: &[(&str, &Sum)]) -> String {
    let mut svg = String::new();
    {
        let root =
            SVGBackend::with_string(&mut svg, (WIDTH, PANEL * panels.len() as u32))
                .into_drawing_area();
        for (area, (what, sum)) in
            root.split_evenly((panels.len(), 1)).iter().zip(panels)
        {
            panel(area, what, sum);
        }
        root.present().unwrap();
    }
    let title = "Requests answered and lost around the signal";
    let description = "A panel for each server, from 0.8 seconds before the signal to 4.4 \
        after it. Pale: the requests answered in each tenth of a second. Solid: those lost. The \
        numbers are in the table.";
    for_a_page(&svg, "load", title, description)
}

/// The picture as a page includes it: with a title and a description, whose ids begin with the name, and
/// in the colours and fonts of the page.
fn for_a_page(svg: &str, name: &str, title: &str, description: &str) -> String {
    let (head, rest) = svg.split_once(">\n").unwrap();
    // As wide as the page allows, and no wider than the other pictures.
    let size = head.find("width=").unwrap()..head.find(" viewBox=").unwrap();
    let mut head = head.to_owned();
    head.replace_range(
        size,
        &format!(
            "role=\"img\" aria-labelledby=\"{name}-title {name}-desc\" \
            style=\"display: block; width: 100%; max-width: 420px; margin: 1.5em 0; color: var(--fg)\""
        ),
    );
    let rest = rest
        .replace(&hex(TEXT), "currentColor")
        .replace(&hex(ANSWERED), "var(--accent, currentColor)")
        .replace(&hex(LOST), "var(--warn, currentColor)")
        .replace(" font-family=\"sans-serif\"", "");
    // Blank lines would end the HTML block of the page.
    let rest: Vec<&str> =
        rest.lines().filter(|line| !line.trim().is_empty()).collect();
    format!(
        "{head}>\n<title id=\"{name}-title\">{title}</title>\n\
        <desc id=\"{name}-desc\">{description}</desc>\n{}\n",
        rest.join("\n")
    )
}

/// A row of a panel: its name, and for each dot the median, the lowest and the highest.
pub type Row = (String, Vec<[f64; 3]>);

const LEGEND: u32 = 50;
const LABELS: i32 = 46;
const ROW: u32 = 72;

/// Draws a panel for each list of rows, with a line at 1. The legend names the dots of a row, of which there
/// are at most three.
pub fn ratios(
    panels: &[(String, Vec<Row>)],
    legend: &[String],
    title: &str,
    description: &str,
) -> String {
    let dots = panels.iter().flat_map(|(_, rows)| rows).flat_map(|(_, dots)| dots);
    let highest = dots.map(|[_, _, highest]| *highest).fold(1.0, f64::max) + 0.1;
    let rows = panels[0].1.len();
    let panel = HEADING as u32 + ROW * rows as u32 + LABELS as u32;
    let style = |dot: usize| match dot {
        0 => TEXT.stroke_width(3),
        1 => TEXT.filled(),
        _ => ANSWERED.filled(),
    };
    let font = FONT.into_font().color(&TEXT);
    let bold = FONT.into_font().style(FontStyle::Bold).color(&TEXT);
    let mut svg = String::new();
    {
        let size = (WIDTH, LEGEND + panel * panels.len() as u32);
        let root = SVGBackend::with_string(&mut svg, size).into_drawing_area();
        let (above, below) = root.split_vertically(LEGEND);
        let mut left = 12;
        for (dot, what) in legend.iter().enumerate() {
            above.draw(&Circle::new((left, 20), 7, style(dot))).unwrap();
            above.draw(&Text::new(&**what, (left + 16, 5), font.clone())).unwrap();
            left += 60 + 15 * what.len() as i32;
        }
        let areas = below.split_evenly((panels.len(), 1));
        for (area, (what, rows)) in areas.iter().zip(panels) {
            let (heading, area) = area.split_vertically(HEADING);
            heading.draw(&Text::new(&**what, (4, 10), bold.clone())).unwrap();
            let mut chart = ChartBuilder::on(&area)
                .margin_right(16)
                .x_label_area_size(LABELS)
                .y_label_area_size(160)
                .build_cartesian_2d(0.0..highest, 0.0..rows.len() as f64)
                .unwrap();
            chart
                .configure_mesh()
                .disable_mesh()
                .disable_y_axis()
                .x_labels(6)
                .x_label_formatter(&|ratio| format!("{ratio}"))
                .axis_style(TEXT)
                .x_label_style(FONT.into_font().color(&TEXT))
                .draw()
                .unwrap();
            let one = [(1.0, 0.0), (1.0, rows.len() as f64)];
            chart.draw_series(LineSeries::new(one, TEXT.stroke_width(1))).unwrap();
            for (row, (what, dots)) in rows.iter().enumerate() {
                let middle = (row as i32) * ROW as i32 + ROW as i32 / 2;
                area.draw(&Text::new(&**what, (4, middle - 15), font.clone()))
                    .unwrap();
                for (dot, [median, lowest, highest]) in dots.iter().enumerate() {
                    let part = (dot + 1) as f64 / (dots.len() + 1) as f64;
                    let y = rows.len() as f64 - row as f64 - part;
                    let line = [(*lowest, y), (*highest, y)];
                    let line = LineSeries::new(line, style(dot).stroke_width(2));
                    chart.draw_series(line).unwrap();
                    let circle = Circle::new((*median, y), 6, style(dot));
                    chart.draw_series([circle]).unwrap();
                }
            }
        }
        root.present().unwrap();
    }
    for_a_page(&svg, "performance", title, description)
}

fn panel(
    area: &DrawingArea<SVGBackend<'_>, plotters::coord::Shift>,
    what: &str,
    sum: &Sum,
) {
    let bins = ((TIME.end - TIME.start) / BIN).round() as usize;
    let mut answered = vec![0.0; bins];
    let mut lost = vec![0; bins];
    for event in &sum.events {
        let bin = ((event.at - TIME.start) / BIN).floor();
        if bin < 0.0 || bin as usize >= bins {
            continue;
        }
        match event.outcome {
            outcome if outcome.is_lost() => lost[bin as usize] += 1,
            crate::client::Outcome::Answered => {
                answered[bin as usize] += 1.0 / sum.runs as f64
            }
            _ => {}
        }
    }
    let highest = answered.iter().copied().fold(1.0, f64::max) * 1.1;
    let all_lost: usize = lost.iter().sum();
    let (heading, area) = area.split_vertically(HEADING);
    let font = FONT.into_font().color(&TEXT);
    let bold = FONT.into_font().style(FontStyle::Bold).color(&TEXT);
    heading.draw(&Text::new(what, (4, 10), bold)).unwrap();
    let right = font.pos(Pos::new(HPos::Right, VPos::Top));
    let result = format!("{all_lost} lost in {} stops", sum.runs);
    heading.draw(&Text::new(result, (WIDTH as i32 - 12, 10), right)).unwrap();
    let mut chart = ChartBuilder::on(&area)
        .margin_left(4)
        .margin_right(12)
        .x_label_area_size(46)
        .y_label_area_size(0)
        .build_cartesian_2d(TIME, 0.0..highest)
        .unwrap();
    chart
        .configure_mesh()
        .disable_mesh()
        .y_labels(0)
        .x_labels(7)
        .x_label_formatter(&|x| format!("{x:.0} s"))
        .axis_style(TEXT)
        .x_label_style(FONT.into_font().color(&TEXT))
        .draw()
        .unwrap();
    let bar = |bin: usize, height: f64, color: RGBAColor| {
        let left = TIME.start + bin as f64 * BIN;
        Rectangle::new([(left, 0.0), (left + BIN * 0.8, height)], color.filled())
    };
    // Pale and solid tell them apart where the colours do not.
    let pale = ANSWERED.mix(0.5);
    let solid = LOST.to_rgba();
    let answered = answered.iter().enumerate().filter(|(_, height)| **height > 0.0);
    chart.draw_series(answered.map(|(bin, height)| bar(bin, *height, pale))).unwrap();
    // A lost request must be seen beside thousands of answered ones.
    let lost = lost.iter().enumerate().filter(|(_, lost)| **lost > 0);
    let height =
        |lost: usize| highest * (0.25 + 0.65 * (lost as f64 / 50.0).min(1.0));
    chart
        .draw_series(lost.map(|(bin, lost)| bar(bin, height(*lost), solid)))
        .unwrap();
    // The signal.
    let line = [(0.0, 0.0), (0.0, highest)];
    chart.draw_series(LineSeries::new(line, TEXT.stroke_width(1))).unwrap();
}
