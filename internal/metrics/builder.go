package metrics

import (
	"cmp"
	"slices"

	dto "github.com/prometheus/client_model/go"
	"google.golang.org/protobuf/proto"
)

// builder collects metric families. Families are made of the library's own types at once, without a collector's detour of
// a description and a channel for each series: with ten thousand backends that is most of the time of a scrape.
type builder struct {
	families []*dto.MetricFamily
	index    map[string]*dto.MetricFamily
}

// labels are name and value pairs, sorted by name.
type labels []*dto.LabelPair

func label(name, value string) *dto.LabelPair {
	return &dto.LabelPair{Name: proto.String(name), Value: proto.String(value)}
}

// with returns the labels and more of them, given as name, value, name, value.
func (l labels) with(more ...string) labels {
	all := make(labels, 0, len(l)+len(more)/2)
	all = append(all, l...)
	for i := 0; i < len(more); i += 2 {
		all = append(all, label(more[i], more[i+1]))
	}
	slices.SortFunc(all, func(a, b *dto.LabelPair) int { return cmp.Compare(a.GetName(), b.GetName()) })
	return all
}

func (b *builder) family(d *Description) *dto.MetricFamily {
	if f := b.index[d.Name]; f != nil {
		return f
	}
	f := &dto.MetricFamily{Name: &d.Name, Help: &d.Help, Type: d.Type.Enum()}
	if b.index == nil {
		b.index = map[string]*dto.MetricFamily{}
	}
	b.index[d.Name] = f
	b.families = append(b.families, f)
	return f
}

// add adds a series of a counter or a gauge.
func (b *builder) add(d *Description, l labels, value float64) {
	m := &dto.Metric{Label: l}
	if d.Type == dto.MetricType_COUNTER {
		m.Counter = &dto.Counter{Value: &value}
	} else {
		m.Gauge = &dto.Gauge{Value: &value}
	}
	f := b.family(d)
	f.Metric = append(f.Metric, m)
}

// histogram adds a histogram. counts are of each bucket alone, one more than there are bounds.
func (b *builder) histogram(d *Description, l labels, bounds []float64, counts []uint64, sum float64) {
	h := &dto.Histogram{SampleSum: &sum, Bucket: make([]*dto.Bucket, len(bounds))}
	var n uint64
	for i := range bounds {
		n += counts[i]
		h.Bucket[i] = &dto.Bucket{UpperBound: &bounds[i], CumulativeCount: proto.Uint64(n)}
	}
	h.SampleCount = proto.Uint64(n + counts[len(bounds)])
	f := b.family(d)
	f.Metric = append(f.Metric, &dto.Metric{Label: l, Histogram: h})
}

// sorted returns the families by name.
func (b *builder) sorted() []*dto.MetricFamily {
	slices.SortFunc(b.families, func(x, y *dto.MetricFamily) int { return cmp.Compare(x.GetName(), y.GetName()) })
	return b.families
}
