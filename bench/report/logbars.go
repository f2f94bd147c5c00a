package report

import (
	"gonum.org/v1/plot"
	"gonum.org/v1/plot/plotter"
	"gonum.org/v1/plot/vg"
	"gonum.org/v1/plot/vg/draw"
)

// logBars draws bars from the bottom of the plot: a logarithmic axis has no 0 to draw them from.
type logBars struct{ *plotter.BarChart }

// Plot draws the bars.
func (b logBars) Plot(c draw.Canvas, p *plot.Plot) {
	x, y := p.Transforms(&c)
	bottom := y(p.Y.Min)
	for i, value := range b.Values {
		if value <= p.Y.Min {
			continue
		}
		left := x(b.XMin+float64(i)) - b.Width/2 + b.Offset
		c.FillPolygon(b.Color, []vg.Point{
			{X: left, Y: bottom}, {X: left, Y: y(value)}, {X: left + b.Width, Y: y(value)}, {X: left + b.Width, Y: bottom},
		})
	}
}

// DataRange is what the axes must show.
func (b logBars) DataRange() (xmin, xmax, ymin, ymax float64) {
	ymin, ymax = b.Values[0], b.Values[0]
	for _, v := range b.Values {
		ymin, ymax = min(ymin, v), max(ymax, v)
	}
	return b.XMin - 0.5, b.XMin + float64(len(b.Values)) - 0.5, ymin, ymax
}
