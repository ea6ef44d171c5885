//! The plot: requests answered and lost over time, a panel for each server.

use plotters::prelude::*;

use crate::Sum;

const WIDTH: u32 = 720;
const PANEL: u32 = 110;
/// The time that the plot shows, in seconds from the signal, and the width of a bar.
const TIME: std::ops::Range<f64> = -0.8..4.4;
const BIN: f64 = 0.1;

/// Draws a panel for each server, one below the other. The colours of text and axes are the
/// page's.
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
    // Black becomes the colour of the page's text; the rest keeps its own.
    let svg = svg.replace("#000000", "currentColor");
    let title = "<title>Requests answered and lost around the signal</title>\
        <desc>A panel for each server: blue, the requests answered in each tenth of a second; red, \
        those lost. The numbers are in the table.</desc>";
    let (head, rest) = svg.split_once(">\n").unwrap();
    // As wide as the page allows.
    let size =
        format!("width=\"{WIDTH}\" height=\"{}\"", PANEL * panels.len() as u32);
    let head = head.replacen(
        &size,
        "role=\"img\" style=\"max-width: 100%; height: auto\"",
        1,
    );
    // Blank lines would end the HTML block of the page.
    let rest: Vec<&str> =
        rest.lines().filter(|line| !line.trim().is_empty()).collect();
    format!("{head}>\n{title}\n{}\n", rest.join("\n"))
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
    let font = ("sans-serif", 18).into_font().color(&BLACK);
    let mut chart = ChartBuilder::on(area)
        .caption(format!("{what}: {all_lost} lost in {} stops", sum.runs), font)
        .margin_left(4)
        .margin_right(12)
        .x_label_area_size(22)
        .y_label_area_size(0)
        .build_cartesian_2d(TIME, 0.0..highest)
        .unwrap();
    chart
        .configure_mesh()
        .disable_mesh()
        .y_labels(0)
        .x_labels(7)
        .x_label_formatter(&|x| format!("{x:.0} s"))
        .axis_style(BLACK)
        .x_label_style(("sans-serif", 16).into_font().color(&BLACK))
        .draw()
        .unwrap();
    let bar = |bin: usize, height: f64, color: RGBColor| {
        let left = TIME.start + bin as f64 * BIN;
        Rectangle::new([(left, 0.0), (left + BIN * 0.8, height)], color.filled())
    };
    let blue = RGBColor(56, 132, 214);
    let red = RGBColor(226, 62, 62);
    let answered =
        answered.iter().enumerate().map(|(bin, height)| bar(bin, *height, blue));
    chart.draw_series(answered).unwrap();
    // A lost request must be seen beside thousands of answered ones.
    let lost = lost.iter().enumerate().filter(|(_, lost)| **lost > 0);
    let height =
        |lost: usize| highest * (0.25 + 0.65 * (lost as f64 / 50.0).min(1.0));
    chart.draw_series(lost.map(|(bin, lost)| bar(bin, height(*lost), red))).unwrap();
    // The signal.
    let line = [(0.0, 0.0), (0.0, highest)];
    chart.draw_series(LineSeries::new(line, BLACK.stroke_width(1))).unwrap();
}
