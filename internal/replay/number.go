package replay

import (
	"fmt"
	"math"
	"math/big"
	"strconv"
	"strings"
)

// parseScaled reads a JSON number and returns it times 10^shift, rounded to the nearest integer: exactly, as a float64
// would lose nanoseconds of a time since 1970. The result must be between 0 and most.
func parseScaled(text string, shift int, most int64) (int64, error) {
	f, err := strconv.ParseFloat(text, 64)
	limit := float64(most) / math.Pow10(shift)
	if err != nil || !(f >= 0 && f <= limit) || len(text) > 64 {
		return 0, fmt.Errorf("must be a number between 0 and %s, got %s", formatFloat(limit), shorten(text))
	}
	mantissa, exponent, _ := strings.Cut(strings.ToLower(strings.TrimPrefix(text, "-")), "e")
	whole, fraction, _ := strings.Cut(mantissa, ".")
	scale := shift - len(fraction)
	if exponent != "" {
		e, err := strconv.Atoi(exponent)
		if err != nil || e < -100 || e > 100 {
			return 0, nil // in range, hence next to nothing
		}
		scale += e
	}
	n, ok := new(big.Int).SetString(whole+fraction, 10)
	if !ok {
		return 0, fmt.Errorf("must be a number, got %s", shorten(text))
	}
	power := new(big.Int).Exp(big.NewInt(10), big.NewInt(int64(max(scale, -scale))), nil)
	if scale >= 0 {
		n.Mul(n, power)
	} else {
		n.Add(n, new(big.Int).Rsh(power, 1)).Div(n, power)
	}
	if !n.IsInt64() || n.Int64() > most {
		return 0, fmt.Errorf("must be a number between 0 and %s, got %s", formatFloat(limit), shorten(text))
	}
	return n.Int64(), nil
}

// appendSeconds appends nanoseconds as seconds, with as many digits as it takes.
func appendSeconds(b []byte, nanos int64) []byte {
	b = strconv.AppendInt(b, nanos/1e9, 10)
	rest := nanos % 1e9
	if rest == 0 {
		return b
	}
	b = append(b, '.')
	for digit := int64(1e8); rest > 0; digit /= 10 {
		b = append(b, byte('0'+rest/digit))
		rest %= digit
	}
	return b
}

// appendFloat appends the shortest number that reads back as f, without an exponent where it can be avoided.
func appendFloat(b []byte, f float64) []byte {
	if abs := math.Abs(f); abs != 0 && (abs < 1e-6 || abs >= 1e21) {
		return strconv.AppendFloat(b, f, 'e', -1, 64)
	}
	return strconv.AppendFloat(b, f, 'f', -1, 64)
}

func formatFloat(f float64) string { return string(appendFloat(nil, f)) }

// appendOptional appends null when there is no f.
func appendOptional(b []byte, f float64, ok bool) []byte {
	if !ok {
		return append(b, "null"...)
	}
	return appendFloat(b, f)
}

// shorten keeps messages readable whatever a line holds.
func shorten(text string) string {
	const most = 60
	if len(text) > most {
		return strings.ToValidUTF8(text[:most], "") + "..."
	}
	return text
}
