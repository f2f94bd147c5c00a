package policy

import (
	"bytes"
	"context"
	"fmt"
	"path/filepath"
	"slices"
	"time"

	"github.com/fsnotify/fsnotify"
)

// How a change is waited for. Editors and kubelet make several steps of one; they are taken together when the files have
// been quiet, or after mostWait of unrest. What inotify does not tell (network file systems, too few instances) polling
// finds.
const (
	quiet         = 50 * time.Millisecond
	mostWait      = 500 * time.Millisecond
	poll          = 5 * time.Second
	pollNoInotify = 500 * time.Millisecond
)

// Update is what the policies are from now on, or why they could not be read: then the last good Set stays in force.
type Update struct {
	Set *Set
	Err error // as Load returns it
}

// Watch follows the policies in path, a file or a directory, until ctx is done; then it closes the channel. The first
// update is what is there now. Writing a file, renaming one over it, swapping a symlink anywhere on the way to it, and
// removing and making the directory anew are noticed within a second. Content that is the same gives no update. A reader
// that is slow misses older updates, never the newest.
func Watch(ctx context.Context, path string) (<-chan Update, error) {
	path, err := filepath.Abs(path)
	if err != nil {
		return nil, fmt.Errorf("watch policies in %s: %w", path, err)
	}
	w := &watcher{path: path, updates: make(chan Update, 1)}
	interval := poll
	if w.inotify, err = fsnotify.NewWatcher(); err != nil {
		interval = pollNoInotify
	}
	w.reload()
	go w.run(ctx, interval)
	return w.updates, nil
}

type watcher struct {
	path    string
	updates chan Update
	inotify *fsnotify.Watcher // nil = none to be had
	watched trail
	sources []Source // as last seen
	unread  Errors   // files that could not be read then
	seen    bool
	files   Reload
}

func (w *watcher) run(ctx context.Context, interval time.Duration) {
	defer close(w.updates)
	var events chan fsnotify.Event
	var errs chan error
	if w.inotify != nil {
		defer w.inotify.Close()
		events, errs = w.inotify.Events, w.inotify.Errors
	}
	ticker := time.NewTicker(interval)
	defer ticker.Stop()
	var settled <-chan time.Time
	var since time.Time // the first of the changes that are waited out
	unrest := func() {
		now := time.Now()
		if settled == nil {
			since = now
		}
		settled = time.After(max(0, min(quiet, mostWait-now.Sub(since))))
	}
	for {
		select {
		case <-ctx.Done():
			return
		case event := <-events:
			if w.watched.concerns(event.Name) {
				unrest()
			}
		case <-errs: // such as too many events at once
			unrest()
		case <-ticker.C:
			if settled == nil && w.differs() {
				unrest()
			}
		case <-settled:
			settled = nil
			w.reload()
		}
	}
}

// differs reports whether there is something else than was last seen.
func (w *watcher) differs() bool {
	sources, unread := read(w.path)
	return !w.same(sources, unread)
}

func (w *watcher) same(sources []Source, unread Errors) bool {
	return w.seen && unread.Error() == w.unread.Error() && slices.EqualFunc(sources, w.sources, func(a, b Source) bool {
		return a.Name == b.Name && bytes.Equal(a.Data, b.Data)
	})
}

// reload reads the policies and, if something has changed, sends them.
func (w *watcher) reload() {
	w.watch() // first: what changes after it was read is noticed
	sources, unread := read(w.path)
	if w.same(sources, unread) {
		return
	}
	w.seen, w.sources, w.unread = true, sources, unread
	var update Update
	update.Set, update.Err = w.files.parse(w.path, sources, unread)
	select {
	case <-w.updates: // an older one that the reader has not taken
	default:
	}
	w.updates <- update
}

// watch brings the watched folders up to date. All are watched afresh: a folder may be another one under the same name.
func (w *watcher) watch() {
	if w.inotify == nil {
		return
	}
	for _, folder := range w.inotify.WatchList() {
		_ = w.inotify.Remove(folder) // it may be gone already
	}
	w.watched = trailOf(w.path)
	for folder := range w.watched {
		_ = w.inotify.Add(folder) // it may not be there yet; then a folder above it is
	}
}
