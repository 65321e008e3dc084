//! Two curves over the load, as SVG. It knows nothing of how they came about.

const WIDTH: f64 = 640.0;
const HEIGHT: f64 = 360.0;
const LEFT: f64 = 60.0;
const RIGHT: f64 = 20.0;
const TOP: f64 = 20.0;
const BOTTOM: f64 = 50.0;

/// Draws calls answered in time each second over the load as a multiple of the capacity.
pub fn draw(with: &[(f64, f64)], without: &[(f64, f64)]) -> String {
    let most = with.iter().chain(without).map(|(_, y)| *y).fold(1.0, f64::max);
    let top = (most / 250.0).ceil() * 250.0;
    let x = |load: f64| LEFT + load / 3.0 * (WIDTH - LEFT - RIGHT);
    let y = |rate: f64| HEIGHT - BOTTOM - rate / top * (HEIGHT - TOP - BOTTOM);
    let mut svg = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {HEIGHT}\" font-family=\"sans-serif\" \
         font-size=\"12\">\n<rect width=\"{WIDTH}\" height=\"{HEIGHT}\" fill=\"white\"/>\n"
    );
    let mut rate = 0.0;
    while rate <= top {
        svg += &format!(
            "<line x1=\"{LEFT}\" x2=\"{}\" y1=\"{y:.1}\" y2=\"{y:.1}\" stroke=\"#ddd\"/>\
             <text x=\"{}\" y=\"{:.1}\" text-anchor=\"end\">{rate:.0}</text>\n",
            WIDTH - RIGHT,
            LEFT - 6.0,
            y(rate) + 4.0,
            y = y(rate),
        );
        rate += 250.0;
    }
    for load in [0.0, 0.5, 1.0, 1.5, 2.0, 2.5, 3.0] {
        svg += &format!(
            "<text x=\"{:.1}\" y=\"{:.1}\" text-anchor=\"middle\">{load}</text>\n",
            x(load),
            HEIGHT - BOTTOM + 18.0
        );
    }
    svg += &format!(
        "<text x=\"{:.1}\" y=\"{:.1}\" text-anchor=\"middle\">load, as a multiple of the capacity</text>\n",
        (LEFT + WIDTH - RIGHT) / 2.0,
        HEIGHT - 10.0
    );
    for (curve, color, name, above) in
        [(with, "#0a7d34", "with queue_target = 10 ms", -10.0), (without, "#c0392b", "without", 18.0)]
    {
        let points: Vec<String> = curve.iter().map(|&(load, rate)| format!("{:.1},{:.1}", x(load), y(rate))).collect();
        svg += &format!(
            "<polyline points=\"{}\" fill=\"none\" stroke=\"{color}\" stroke-width=\"2\"/>\n",
            points.join(" ")
        );
        if let Some(&(load, rate)) = curve.last() {
            svg += &format!(
                "<text x=\"{:.1}\" y=\"{:.1}\" text-anchor=\"end\" fill=\"{color}\">{name}</text>\n",
                x(load) - 4.0,
                y(rate) + above
            );
        }
    }
    svg + &format!("<text x=\"{LEFT}\" y=\"14\">calls answered within their 100 ms, each second</text>\n</svg>\n")
}
