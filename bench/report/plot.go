package report

import (
	"fmt"
	"image/color"
	"maps"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"gonum.org/v1/plot"
	"gonum.org/v1/plot/plotter"
	"gonum.org/v1/plot/vg"

	"github.com/cbagent/cbagent/bench/row"
)

// colours of peers, the same in all plots: ours stands out.
var colours = map[string]color.Color{
	"cbagent": color.RGBA{0xd9, 0x48, 0x01, 0xff}, "direct": color.Gray{0x40}, "haproxy": color.RGBA{0x21, 0x71, 0xb5, 0xff},
	"nginx": color.RGBA{0x23, 0x8b, 0x45, 0xff}, "gobreaker": color.RGBA{0x6a, 0x51, 0xa3, 0xff},
	"failsafe-go": color.RGBA{0x80, 0x7d, 0xba, 0xff}, "oxy": color.RGBA{0x9e, 0x9a, 0xc8, 0xff},
}

// colour returns a peer's colour. Several ways of one peer have shades of it, by their places in a plot.
func colour(peer string, all []string) color.Color {
	for _, name := range slices.Sorted(maps.Keys(colours)) {
		if !strings.HasPrefix(peer, name) {
			continue
		}
		shade := 0
		for _, other := range all {
			if other == peer {
				break
			}
			if strings.HasPrefix(other, name) {
				shade++
			}
		}
		return lighter(colours[name], shade)
	}
	return color.Gray{0x90}
}

// lighter takes a colour some steps towards white.
func lighter(c color.Color, steps int) color.Color {
	r, g, b, _ := c.RGBA()
	part := func(v uint32) uint8 {
		v >>= 8
		for range steps {
			v += (255 - v) * 35 / 100
		}
		return uint8(v)
	}
	return color.RGBA{part(r), part(g), part(b), 0xff}
}

// Plots draws what there is into SVG files of a folder, and returns their names.
func Plots(s Set, folder string) ([]string, error) {
	var drawn []string
	draw := func(name string, p *plot.Plot, err error) error {
		if err != nil {
			return fmt.Errorf("plot %s: %w", name, err)
		}
		if p == nil {
			return nil
		}
		p.Add(plotter.NewGrid())
		if err := p.Save(18*vg.Centimeter, 9*vg.Centimeter, filepath.Join(folder, name+".svg")); err != nil {
			return fmt.Errorf("plot %s: %w", name, err)
		}
		drawn = append(drawn, name+".svg")
		return nil
	}
	for _, one := range []struct {
		name string
		plot func() (*plot.Plot, error)
	}{
		{"overhead-latency", func() (*plot.Plot, error) {
			return s.bars("overhead", "p50_us", "p50 of a request, us", func(string) bool { return true })
		}},
		{"rejection-latency", func() (*plot.Plot, error) {
			return s.bars("rejection", "p50_us", "p50 of a rejection, us", func(of string) bool { return strings.HasSuffix(of, "/1") })
		}},
		{"containment-leak", func() (*plot.Plot, error) {
			return s.bars("containment", "leaked", "requests that reach the failing backend", func(of string) bool {
				return slices.Contains([]string{leak500, leak500Long, leakByRate, leakHang, "refuse, 400 rps, after 1s", "black-hole, 400 rps, after 1s"}, of)
			})
		}},
		{"seeds-fortio", func() (*plot.Plot, error) {
			return s.lines("seeds", "fortio, ", " clients", []string{"share_200"}, "clients", "share of 200", false)
		}},
		{"scale-backends-packet", func() (*plot.Plot, error) {
			return s.lines("scale", "backends/", "", []string{"ns_per_packet", "p50_us"}, "backends", "ns per packet; us per request", true)
		}},
		{"scale-backends-agent", func() (*plot.Plot, error) {
			return s.lines("scale", "backends/", "", []string{"rss_mb", "map_memory_mb", "idle_cpu_ms_per_s", "verdict_for_all_ms", "start_ms", "scrape_ms"}, "backends", "MB; ms", true)
		}},
		{"scale-flows", func() (*plot.Plot, error) {
			return s.lines("scale", "flows/", "", []string{"ns_per_packet", "p50_us", "rss_mb", "map_memory_mb", "idle_cpu_ms_per_s"}, "connections", "ns; us; MB; ms", true)
		}},
	} {
		p, err := one.plot()
		if err := draw(one.name, p, err); err != nil {
			return drawn, err
		}
	}
	return drawn, nil
}

// bars draws a value as a group of bars for each case, a bar for each peer, on a logarithmic axis.
func (s Set) bars(part, value, title string, want func(of string) bool) (*plot.Plot, error) {
	f := s[part]
	if f == nil {
		return nil, nil
	}
	var cases, peers []string
	for _, of := range f.Cases() {
		if !want(of) {
			continue
		}
		cases = append(cases, of)
		for _, peer := range f.Peers(of) {
			if !slices.Contains(peers, peer) {
				peers = append(peers, peer)
			}
		}
	}
	if len(cases) == 0 {
		return nil, nil
	}
	p := plot.New()
	p.Y.Label.Text = title
	p.Y.Scale = plot.LogScale{}
	p.Y.Tick.Marker = plot.LogTicks{Prec: -1}
	p.Y.Min = 0.8
	p.Legend.Top, p.Legend.Left = true, true
	p.Legend.TextStyle.Font.Size = vg.Points(7)
	width := vg.Points(380 / float64(len(cases)*(len(peers)+1)))
	for i, peer := range peers {
		values := make(plotter.Values, len(cases))
		for k, of := range cases {
			// A logarithmic axis has no 0, and no bar stands for what was not measured.
			values[k] = 0.8
			if e, err := s.median(pick{part, of, peer, value}); err == nil {
				values[k] = max(e.Value, 1)
			}
		}
		b, err := plotter.NewBarChart(values, width)
		if err != nil {
			return nil, err
		}
		b.Color, b.LineStyle.Width = colour(peer, peers), 0
		b.Offset = width * vg.Length(float64(i)-float64(len(peers)-1)/2)
		b.XMin = 0
		p.Add(logBars{b})
		p.Legend.Add(peer, b)
	}
	p.NominalX(cases...)
	p.X.Tick.Label.Font.Size = vg.Points(7)
	p.Y.Max *= 4 // room for the legend
	return p, nil
}

// lines draws values over the number in the names of cases, a line for each peer and value.
func (s Set) lines(part, prefix, suffix string, values []string, xTitle, yTitle string, log bool) (*plot.Plot, error) {
	f := s[part]
	if f == nil {
		return nil, nil
	}
	p := plot.New()
	p.X.Label.Text, p.Y.Label.Text = xTitle, yTitle
	p.Legend.Top = true
	p.Legend.TextStyle.Font.Size = vg.Points(7)
	if log {
		p.X.Scale, p.X.Tick.Marker = plot.LogScale{}, plot.LogTicks{Prec: -1}
		p.Y.Scale, p.Y.Tick.Marker = plot.LogScale{}, plot.LogTicks{Prec: -1}
	}
	drawn := 0
	peers := linePeers(f, prefix)
	for _, peer := range peers {
		for i, value := range values {
			points := s.points(f, prefix, suffix, peer, value)
			if len(points) < 2 {
				continue
			}
			line, dots, err := plotter.NewLinePoints(points)
			if err != nil {
				return nil, err
			}
			line.Color = colour(peer, peers)
			if len(values) > 1 {
				line.Color = palette[i%len(palette)]
			}
			dots.Color = line.Color
			p.Add(line, dots)
			p.Legend.Add(strings.ReplaceAll(peer+" "+value, "_", " "), line)
			drawn++
		}
	}
	if drawn == 0 {
		return nil, nil
	}
	// Room for the legend.
	if log {
		p.Y.Max *= 8
	} else {
		p.Y.Max *= 1.2
	}
	return p, nil
}

var palette = []color.Color{
	color.RGBA{0xd9, 0x48, 0x01, 0xff}, color.RGBA{0x21, 0x71, 0xb5, 0xff}, color.RGBA{0x23, 0x8b, 0x45, 0xff},
	color.RGBA{0x6a, 0x51, 0xa3, 0xff}, color.Gray{0x60}, color.RGBA{0xcc, 0x9a, 0x06, 0xff},
}

func linePeers(f *row.File, prefix string) []string {
	var peers []string
	for _, of := range f.Cases() {
		if !strings.HasPrefix(of, prefix) {
			continue
		}
		for _, peer := range f.Peers(of) {
			if !slices.Contains(peers, peer) {
				peers = append(peers, peer)
			}
		}
	}
	return peers
}

func (s Set) points(f *row.File, prefix, suffix, peer, value string) plotter.XYs {
	var points plotter.XYs
	for _, of := range f.Cases() {
		rest, ok := strings.CutPrefix(of, prefix)
		if !ok {
			continue
		}
		x, err := strconv.ParseFloat(strings.TrimSuffix(rest, suffix), 64)
		if err != nil {
			continue
		}
		e, err := s.median(pick{f.Part, of, peer, value})
		if err == nil && e.Value > 0 {
			points = append(points, plotter.XY{X: x, Y: e.Value})
		}
	}
	slices.SortFunc(points, func(a, b plotter.XY) int {
		return int(a.X - b.X)
	})
	return points
}
