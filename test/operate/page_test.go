//go:build monitoring

package operate

import (
	"context"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/chromedp/cdproto/emulation"
	"github.com/chromedp/chromedp"

	"github.com/cbagent/cbagent/internal/lab/testserver"
)

// screenshots is where a person finds what the tests saw.
const screenshots = "../../bin/screenshots"

// browser starts a headless Chromium and returns its context, and what it complained of.
func browser(t *testing.T) (context.Context, func() []string) {
	t.Helper()
	ctx, cancel := chromedp.NewExecAllocator(soonish(t), chromedp.ExecPath("chromium"), chromedp.NoSandbox, chromedp.Headless,
		chromedp.DisableGPU, chromedp.NoFirstRun, chromedp.UserDataDir(t.TempDir()))
	t.Cleanup(cancel)
	ctx, cancel = chromedp.NewContext(ctx)
	t.Cleanup(cancel)
	var mu sync.Mutex
	var complaints []string
	messages := chromedp.Console(ctx)
	go func() {
		for m, err := range messages {
			if err != nil {
				return // the browser has ended
			}
			mu.Lock()
			complaints = append(complaints, m.String())
			mu.Unlock()
		}
	}()
	return ctx, func() []string {
		mu.Lock()
		defer mu.Unlock()
		return complaints
	}
}

// soonish bounds a whole conversation with a browser, which on a busy machine takes its time to start.
func soonish(t *testing.T) context.Context {
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Minute)
	t.Cleanup(cancel)
	return ctx
}

// seen is what a browser shows.
type seen struct {
	text, background string
	overflow         int64 // pixels that the page is wider than the screen
	shot             []byte
}

// look opens the page and returns what it shows after some looks at the agent, which the curves need.
func look(tab context.Context, url string, width, height int64, scale float64, mobile bool, scheme string) (seen, error) {
	var got seen
	size := []chromedp.EmulateViewportOption{chromedp.EmulateScale(scale)}
	if mobile {
		size = append(size, chromedp.EmulateMobile)
	}
	err := chromedp.Do(tab, chromedp.EmulateViewport(width, height, size...))
	if err == nil {
		_, err = chromedp.Call(tab, emulation.SetEmulatedMedia, emulation.SetEmulatedMediaParams{
			Features: []*emulation.MediaFeature{{Name: "prefers-color-scheme", Value: scheme}},
		})
	}
	if err == nil {
		err = chromedp.Do(tab, chromedp.Navigate(url))
	}
	if err == nil {
		_, err = chromedp.Run(tab, chromedp.Poll[bool]("Number(document.body.dataset.drawn || 0) >= 4", chromedp.WithPollingTimeout(time.Minute)))
	}
	if err == nil {
		got.text, err = chromedp.Run(tab, chromedp.Evaluate[string]("document.body.innerText"))
	}
	if err == nil {
		got.overflow, err = chromedp.Run(tab, chromedp.Evaluate[int64]("document.documentElement.scrollWidth - document.documentElement.clientWidth"))
	}
	if err == nil {
		got.background, err = chromedp.Run(tab, chromedp.Evaluate[string]("getComputedStyle(document.body).backgroundColor"))
	}
	if err == nil {
		got.shot, err = chromedp.Run(tab, chromedp.FullScreenshot(100))
	}
	return got, err
}

// The page in a browser, in the middle of an incident, on a desk and on a phone.
func TestPage(t *testing.T) {
	s := newStage(t, 3, []string{"trip: [{consecutiveFailures: 5}]", "open: {duration: 5m}"})
	for i := range 3 {
		s.load(i, 30, 2)
	}
	s.servers[1].Set(testserver.Behaviour{Status: 503})
	s.load(1, 30, 1)
	if _, stderr, code := s.run("disable", "orders/"+s.targets[2].String(), "--for", "1h", "--reason", "load test"); code != 0 {
		t.Fatal(stderr)
	}
	ctx, cancel := context.WithCancel(context.Background())
	var traffic sync.WaitGroup
	defer traffic.Wait()
	defer cancel()
	traffic.Go(func() {
		for ctx.Err() == nil {
			for i := range 3 {
				s.load(i, 20, 1)
			}
			time.Sleep(100 * time.Millisecond)
		}
	})

	tab, complaints := browser(t)
	if err := os.MkdirAll(screenshots, 0o755); err != nil {
		t.Fatal(err)
	}
	for _, view := range []struct {
		name          string
		width, height int64
		scale         float64
		mobile        bool
		scheme        string
	}{
		{"desk", 1440, 900, 1, false, "dark"}, {"phone", 390, 844, 2, true, "dark"}, {"light", 1440, 900, 1, false, "light"},
	} {
		t.Run(view.name, func(t *testing.T) {
			got, err := look(tab, s.reach(), view.width, view.height, view.scale, view.mobile, view.scheme)
			if err != nil {
				t.Fatalf("%v; the browser complained of %v", err, complaints())
			}
			for _, want := range []string{
				"v0.0.0-test", "1 closed", "1 open", "1 disabled", "orders / " + s.targets[1].String(), "consecutiveFailures 5 of 5",
				"by hand: disabled by root: load test", "closed → open", "closed → disabled", "5 of ",
			} {
				if !strings.Contains(got.text, want) {
					t.Errorf("the page says nothing of %q:\n%s", want, got.text)
				}
			}
			if at, other := strings.Index(got.text, s.targets[1].String()), strings.Index(got.text, s.targets[0].String()); at > other {
				t.Error("the open circuit does not come first")
			}
			if got.overflow > 0 {
				t.Errorf("the page is %d pixels wider than the screen", got.overflow)
			}
			if want := map[string]string{"dark": "rgb(16, 20, 24)", "light": "rgb(245, 246, 248)"}[view.scheme]; got.background != want {
				t.Errorf("in a %s room the background is %s, want %s", view.scheme, got.background, want)
			}
			path := filepath.Join(screenshots, "page-"+view.name+".png")
			if err := os.WriteFile(path, got.shot, 0o644); err != nil {
				t.Fatal(err)
			}
			t.Logf("screenshot: %s", path)
		})
	}
	if got := complaints(); len(got) > 0 {
		t.Errorf("the browser complained: %v", got)
	}
}
