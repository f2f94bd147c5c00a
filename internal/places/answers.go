package places

import (
	"errors"
	"time"

	"github.com/cbagent/cbagent/internal/tables"
)

// ErrNoAnswer is the error of a table of answers without a free place.
var ErrNoAnswer = errors.New("the table of answers is full: let policies share bodies, or raise --max-answers")

// adopted is how long places that a former agent used stay reserved.
const adopted = time.Minute

// answerRest is how long an answer stays after its last use: the programs may send it again on connections that got it.
const answerRest = time.Minute

// AnswerKernel is the part of the datapath that Answers uses.
type AnswerKernel interface {
	PutAnswer(index int, a tables.Answer) error
}

// Answers stores each distinct answer once. The agent's lock protects it.
type Answers struct {
	kernel    AnswerKernel
	size      int
	free      slots
	byContent map[string]*Answer
}

// Answer is the place of an answer that policies share.
type Answer struct {
	Index int // in the kernel's table
	uses  int
	key   string
}

// NewAnswers returns the places of a table of that size, all free.
func NewAnswers(k AnswerKernel, size int) *Answers {
	return &Answers{kernel: k, size: size, byContent: map[string]*Answer{}}
}

// Adopt reserves the places that a former agent used for a minute.
func (t *Answers) Adopt(used map[int]bool, now int64) { t.free.reserve(used, now+int64(adopted)) }

// Put returns the place of an answer with these bytes. It writes the answer there unless the place has it already. The
// error is ErrNoAnswer or an error of the kernel.
func (t *Answers) Put(a tables.Answer, now int64) (*Answer, error) {
	key := string(a.Bytes)
	if s, ok := t.byContent[key]; ok {
		s.uses++
		return s, nil
	}
	index, ok := t.free.take(now, t.size)
	if !ok {
		return nil, ErrNoAnswer
	}
	if err := t.kernel.PutAnswer(index, a); err != nil {
		t.free.give(index, now)
		return nil, err
	}
	s := &Answer{Index: index, uses: 1, key: key}
	t.byContent[key] = s
	return s, nil
}

// Release ends one use of an answer.
func (t *Answers) Release(s *Answer, now int64) {
	if s.uses--; s.uses > 0 {
		return
	}
	delete(t.byContent, s.key)
	t.free.give(s.Index, now+int64(answerRest))
}
