package policy

import (
	"time"

	"github.com/cbagent/cbagent/internal/breaker"
)

func (s *scope) window(spec *WindowSpec) breaker.Window {
	const maxCount, minSize, maxSize = breaker.MaxWindowCount, Duration(breaker.MinWindowSize), Duration(breaker.MaxWindowSize)
	if !s.sound("window.type", "window.size") {
		return breaker.Window{}
	}
	w := breaker.Window{Type: enum[breaker.WindowType](spec.Type)}
	size := spec.Size
	if w.Type == breaker.WindowCount {
		if !s.given("window.size") {
			size = Size{Count: 100, IsCount: true}
		}
		switch {
		case !size.IsCount:
			s.reject("window.size", "must be a number of outcomes between 1 and %d for a count window, got %s%s",
				maxCount, size.Duration, s.origin("window.size"))
		case size.Count < 1 || size.Count > maxCount:
			s.reject("window.size", "must be between 1 and %d, got %d", maxCount, size.Count)
		}
		if s.given("window.bucket") {
			s.reject("window.bucket", "must not be given for a count window%s", s.origin("window.bucket"))
		}
		w.Count = size.Count
		return w
	}
	switch {
	case size.IsCount:
		s.reject("window.size", "must be a duration between %s and %s for a time window, got %d%s",
			minSize, maxSize, size.Count, s.origin("window.size"))
		return w
	case size.Duration < minSize || size.Duration > maxSize:
		s.reject("window.size", "must be between %s and %s, got %s", minSize, maxSize, size.Duration)
		return w
	}
	w.Size = time.Duration(size.Duration)
	w.Bucket = s.bucket(size.Duration, spec.Bucket)
	return w
}

// bucket returns the length of the buckets of a time window of that size.
func (s *scope) bucket(size, bucket Duration) time.Duration {
	if !s.given("window.bucket") {
		bucket = Duration(time.Second)
		if size < 10*bucket || size%bucket != 0 {
			bucket = size / 10
		}
		if size%bucket != 0 {
			s.reject("window.size", "must be divisible by 10, or have a bucket of its own, got %s", size)
		}
		return time.Duration(bucket)
	}
	if !s.sound("window.bucket") {
		return 0
	}
	switch {
	case bucket > size || size%bucket != 0:
		s.reject("window.bucket", "must divide the window's size of %s, got %s%s", size, bucket, s.origin("window.bucket"))
	case size/bucket > breaker.MaxWindowCount:
		s.reject("window.bucket", "must make at most %d buckets of the window's size of %s, got %s",
			breaker.MaxWindowCount, size, bucket)
	}
	return time.Duration(bucket)
}
