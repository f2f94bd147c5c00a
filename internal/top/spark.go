package top

import "strings"

var blocks = []rune(" ▁▂▃▄▅▆▇█")

// spark draws the last rates in so many columns, the newest at the right, the largest as a full block. Each rate above 0 is
// visible.
func spark(rates []float64, width int) string {
	rates = rates[max(0, len(rates)-width):]
	most := 0.0
	for _, r := range rates {
		most = max(most, r)
	}
	var b strings.Builder
	b.WriteString(strings.Repeat(" ", width-len(rates)))
	for _, r := range rates {
		i := 0
		if r > 0 {
			i = min(1+int(r/most*float64(len(blocks)-1)), len(blocks)-1)
		}
		b.WriteRune(blocks[i])
	}
	return b.String()
}
