// Every scenario of ../scenarios.py through amqp091-go. Prints one line of JSON for each.
//
// Usage: main HOST PORT PROXY_PORT CONTROL_PORT PREFIX KIND
package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"os"
	"reflect"
	"strconv"
	"time"

	amqp "github.com/rabbitmq/amqp091-go"
)

const wait = 10 * time.Second

var host, port, proxyPort, controlPort, prefix, kind string

type world struct {
	name        string
	connections []*amqp.Connection
}

type skip string

func (s skip) Error() string { return string(s) }

func check(err error) {
	if err != nil {
		panic(err)
	}
}

func must(ok bool, format string, arguments ...any) {
	if !ok {
		panic(fmt.Errorf(format, arguments...))
	}
}

func (w *world) connect(port string, heartbeat time.Duration) *amqp.Connection {
	connection, err := amqp.DialConfig(
		"amqp://guest:guest@"+net.JoinHostPort(host, port)+"/", amqp.Config{Heartbeat: heartbeat})
	check(err)
	w.connections = append(w.connections, connection)
	return connection
}

func open(connection *amqp.Connection) *amqp.Channel {
	channel, err := connection.Channel()
	check(err)
	return channel
}

func (w *world) channel() *amqp.Channel { return open(w.connect(port, 30*time.Second)) }

func (w *world) queue(channel *amqp.Channel, suffix string, arguments amqp.Table) string {
	queue, err := channel.QueueDeclare(prefix+w.name+suffix, false, false, false, false, arguments)
	check(err)
	return queue.Name
}

func publish(channel *amqp.Channel, exchange, key string, message amqp.Publishing) {
	check(channel.Publish(exchange, key, false, false, message))
}

func text(body string) amqp.Publishing { return amqp.Publishing{Body: []byte(body)} }

func get(channel *amqp.Channel, queue string, noAck bool) amqp.Delivery {
	for deadline := time.Now().Add(wait); time.Now().Before(deadline); {
		message, ok, err := channel.Get(queue, noAck)
		check(err)
		if ok {
			return message
		}
	}
	panic(errors.New("nothing in " + queue))
}

func arrived(channel *amqp.Channel, queue string, count int) {
	for deadline := time.Now().Add(wait); time.Now().Before(deadline); {
		state, err := channel.QueueDeclarePassive(queue, false, false, false, false, nil)
		check(err)
		if state.Messages == count {
			return
		}
	}
	panic(fmt.Errorf("%s does not hold %d", queue, count))
}

func next(deliveries <-chan amqp.Delivery) amqp.Delivery {
	select {
	case message, ok := <-deliveries:
		must(ok, "the consumer ended")
		return message
	case <-time.After(wait):
		panic(errors.New("no delivery"))
	}
}

func consume(channel *amqp.Channel, queue string, noAck bool) <-chan amqp.Delivery {
	deliveries, err := channel.Consume(queue, "c-"+queue, noAck, false, false, false, nil)
	check(err)
	return deliveries
}

func code(err error) int {
	var closed *amqp.Error
	if errors.As(err, &closed) {
		return closed.Code
	}
	return 0
}

func publishGet(w *world) {
	channel := w.channel()
	queue := w.queue(channel, "", nil)
	_, ok, err := channel.Get(queue, false)
	check(err)
	must(!ok, "a new queue is empty")
	publish(channel, "", queue, text("one"))
	message := get(channel, queue, false)
	must(string(message.Body) == "one" && message.RoutingKey == queue && !message.Redelivered, "%v", message)
	check(message.Ack(false))
}

func confirm(w *world) {
	channel := w.channel()
	queue := w.queue(channel, "", nil)
	check(channel.Confirm(false))
	confirmed := channel.NotifyPublish(make(chan amqp.Confirmation, 50))
	for number := range 50 {
		publish(channel, "", queue, text(strconv.Itoa(number)))
	}
	for number := range 50 {
		one := <-confirmed
		must(one.Ack && one.DeliveryTag == uint64(number+1), "%v", one)
	}
	arrived(channel, queue, 50)
}

func consumeMany(w *world) {
	connection := w.connect(port, 30*time.Second)
	publisher, consumer := open(connection), open(connection)
	queue := w.queue(publisher, "", nil)
	deliveries := consume(consumer, queue, false)
	for number := range 100 {
		publish(publisher, "", queue, text(strconv.Itoa(number)))
	}
	var message amqp.Delivery
	for number := range 100 {
		message = next(deliveries)
		must(string(message.Body) == strconv.Itoa(number), "%d: %s", number, message.Body)
	}
	check(message.Ack(true))
	arrived(publisher, queue, 0)
}

func cancel(w *world) {
	channel := w.channel()
	queue := w.queue(channel, "", nil)
	deliveries := consume(channel, queue, false)
	publish(channel, "", queue, text("first"))
	first := next(deliveries)
	check(channel.Cancel("c-"+queue, false))
	publish(channel, "", queue, text("second"))
	check(first.Ack(false))
	must(string(get(channel, queue, true).Body) == "second", "the second stays")
}

func prefetch(w *world) {
	channel := w.channel()
	queue := w.queue(channel, "", nil)
	for number := range 20 {
		publish(channel, "", queue, text(strconv.Itoa(number)))
	}
	arrived(channel, queue, 20)
	check(channel.Qos(5, 0, false))
	deliveries := consume(channel, queue, false)
	var message amqp.Delivery
	for range 5 {
		message = next(deliveries)
	}
	arrived(channel, queue, 15)
	check(message.Ack(true))
	for number := 5; number < 10; number++ {
		must(string(next(deliveries).Body) == strconv.Itoa(number), "order")
	}
	arrived(channel, queue, 10)
}

func nackRequeue(w *world) {
	channel := w.channel()
	queue := w.queue(channel, "", nil)
	for _, body := range []string{"a", "b", "c"} {
		publish(channel, "", queue, text(body))
	}
	arrived(channel, queue, 3)
	get(channel, queue, false)
	second := get(channel, queue, false)
	get(channel, queue, false)
	check(second.Nack(true, true))
	for _, body := range []string{"a", "b"} {
		message := get(channel, queue, false)
		must(string(message.Body) == body && message.Redelivered, "%s", message.Body)
	}
}

func rejectDeadLetter(w *world) {
	channel := w.channel()
	dead := w.queue(channel, ".dead", nil)
	queue := w.queue(channel, "", amqp.Table{
		"x-dead-letter-exchange": "", "x-dead-letter-routing-key": dead})
	publish(channel, "", queue, amqp.Publishing{Body: []byte("m"), Headers: amqp.Table{"keep": "me"}})
	check(get(channel, queue, false).Reject(false))
	message := get(channel, dead, true)
	deaths := message.Headers["x-death"].([]any)
	death := deaths[0].(amqp.Table)
	must(death["queue"] == queue && death["reason"] == "rejected" && death["count"] == int64(1), "%v", death)
	must(message.Headers["keep"] == "me", "headers are kept")
}

func mandatoryReturn(w *world) {
	channel := w.channel()
	returned := channel.NotifyReturn(make(chan amqp.Return, 1))
	check(channel.Publish("", prefix+"nobody", true, false, text("back")))
	select {
	case one := <-returned:
		must(one.ReplyCode == 312 && string(one.Body) == "back", "%v", one)
	case <-time.After(wait):
		panic(errors.New("nothing returned"))
	}
}

func transactions(w *world) {
	connection := w.connect(port, 30*time.Second)
	channel, other := open(connection), open(connection)
	queue := w.queue(channel, "", nil)
	check(channel.Tx())
	publish(channel, "", queue, text("rolled back"))
	check(channel.TxRollback())
	publish(channel, "", queue, text("committed"))
	_, ok, err := other.Get(queue, true)
	check(err)
	must(!ok, "nothing before the commit")
	check(channel.TxCommit())
	must(string(get(other, queue, true).Body) == "committed", "after the commit")
}

func reconnect(w *world) {
	setup := w.channel()
	queue := w.queue(setup, "", nil)
	publish(setup, "", queue, text("1"))
	publish(setup, "", queue, text("2"))
	arrived(setup, queue, 2)
	connection := w.connect(proxyPort, 30*time.Second)
	closed := connection.NotifyClose(make(chan *amqp.Error, 1))
	channel := open(connection)
	check(channel.Qos(1, 0, false))
	message := next(consume(channel, queue, false))
	must(string(message.Body) == "1", "%s", message.Body)
	control, err := net.Dial("tcp", net.JoinHostPort(host, controlPort))
	check(err)
	check(control.Close())
	select {
	case <-closed:
	case <-time.After(wait):
		panic(errors.New("the cut was not noticed"))
	}
	deliveries := consume(open(w.connect(proxyPort, 30*time.Second)), queue, false)
	message = next(deliveries)
	must(string(message.Body) == "1" && message.Redelivered, "%v", message)
	must(string(next(deliveries).Body) == "2", "then the second")
}

func largeMessage(w *world) {
	channel := w.channel()
	queue := w.queue(channel, "", nil)
	body := bytes.Repeat([]byte("wherry.."), 1<<20)
	publish(channel, "", queue, amqp.Publishing{Body: body})
	must(bytes.Equal(get(channel, queue, true).Body, body), "8 MiB came back otherwise")
}

func manyChannels(w *world) {
	connection := w.connect(port, 30*time.Second)
	var channels []*amqp.Channel
	for range 200 {
		channels = append(channels, open(connection))
	}
	queue := w.queue(channels[0], "", nil)
	for number, channel := range channels {
		publish(channel, "", queue, text(strconv.Itoa(number)))
	}
	arrived(channels[0], queue, 200)
	seen := map[string]bool{}
	for _, channel := range channels {
		seen[string(get(channel, queue, true).Body)] = true
	}
	must(len(seen) == 200, "%d different", len(seen))
}

func properties(w *world) {
	channel := w.channel()
	queue := w.queue(channel, "", nil)
	stamp := time.Unix(1767323045, 0)
	sent := amqp.Publishing{
		ContentType: "text/plain", ContentEncoding: "utf-8", DeliveryMode: 2, Priority: 7,
		CorrelationId: "correlation", ReplyTo: "reply", Expiration: "60000", MessageId: "id",
		Timestamp: stamp, Type: "kind", UserId: "guest", AppId: "application", Body: []byte("body"),
		Headers: amqp.Table{
			"text": "grüße", "empty": "", "true": true, "byte": byte(7), "int8": int8(-7),
			"int16": int16(-700), "int32": int32(-70000), "int64": int64(1 << 40),
			"float32": float32(0.5), "float64": 0.25, "bytes": []byte{0, 255}, "none": nil,
			"decimal": amqp.Decimal{Scale: 2, Value: 314}, "time": stamp,
			"list":  []any{int32(1), "two", []any{true}},
			"table": amqp.Table{"inner": amqp.Table{"deep": "yes"}},
		},
	}
	publish(channel, "", queue, sent)
	got := get(channel, queue, true)
	must(reflect.DeepEqual(got.Headers, sent.Headers), "%#v", got.Headers)
	must(got.ContentType == sent.ContentType && got.ContentEncoding == sent.ContentEncoding &&
		got.DeliveryMode == 2 && got.Priority == 7 && got.CorrelationId == sent.CorrelationId &&
		got.ReplyTo == sent.ReplyTo && got.Expiration == sent.Expiration &&
		got.MessageId == sent.MessageId && got.Timestamp.Equal(stamp) && got.Type == sent.Type &&
		got.UserId == sent.UserId && got.AppId == sent.AppId, "%#v", got)
}

func exclusiveQueue(w *world) {
	owner, stranger := w.channel(), w.channel()
	queue, err := owner.QueueDeclare("", false, false, true, false, nil)
	check(err)
	must(len(queue.Name) > 8 && queue.Name[:8] == "amq.gen-", "%s", queue.Name)
	_, err = stranger.QueueDeclarePassive(queue.Name, false, false, true, false, nil)
	must(code(err) == 405, "%v", err)
}

func errorCodes(w *world) {
	connection := w.connect(port, 30*time.Second)
	queue := w.queue(open(connection), "", amqp.Table{"x-max-priority": int32(10)})
	_, err := open(connection).QueueDeclarePassive(prefix+"absent", false, false, false, false, nil)
	must(code(err) == 404, "%v", err)
	_, err = open(connection).QueueDeclare(queue, false, false, false, false, nil)
	must(code(err) == 406, "%v", err)
	err = open(connection).ExchangeDeclare("amq.mine", "direct", false, false, false, false, nil)
	must(code(err) == 403, "%v", err)
	_, _, err = open(connection).Get(prefix+"absent", false)
	must(code(err) == 404, "%v", err)
	open(connection)
}

func consumerCancel(w *world) {
	connection := w.connect(port, 30*time.Second)
	channel := open(connection)
	queue := w.queue(channel, "", nil)
	cancelled := channel.NotifyCancel(make(chan string, 1))
	consume(channel, queue, false)
	_, err := open(connection).QueueDelete(queue, false, false, false)
	check(err)
	select {
	case tag := <-cancelled:
		must(tag == "c-"+queue, "%s", tag)
	case <-time.After(wait):
		panic(errors.New("not cancelled"))
	}
}

func heartbeats(w *world) {
	connection := w.connect(port, time.Second)
	closed := connection.NotifyClose(make(chan *amqp.Error, 1))
	select {
	case err := <-closed:
		panic(fmt.Errorf("closed: %v", err))
	case <-time.After(3500 * time.Millisecond):
	}
	open(connection)
}

func directReplyTo(w *world) {
	connection := w.connect(port, 30*time.Second)
	asking, answering := open(connection), open(connection)
	queue := w.queue(answering, "", nil)
	replies := consume(asking, "amq.rabbitmq.reply-to", true)
	publish(asking, "", queue, amqp.Publishing{ReplyTo: "amq.rabbitmq.reply-to", Body: []byte("abc")})
	request := get(answering, queue, true)
	publish(answering, "", request.ReplyTo, text("cba"))
	must(string(next(replies).Body) == "cba", "the answer")
}

func priority(w *world) {
	channel := w.channel()
	queue := w.queue(channel, "", amqp.Table{"x-max-priority": int32(5)})
	for _, level := range []uint8{1, 5, 0, 3, 5} {
		publish(channel, "", queue, amqp.Publishing{Priority: level, Body: []byte{'0' + level}})
	}
	arrived(channel, queue, 5)
	order := ""
	for range 5 {
		order += string(get(channel, queue, true).Body)
	}
	must(order == "55310", "%s", order)
}

func ttl(w *world) {
	channel := w.channel()
	dead := w.queue(channel, ".dead", nil)
	queue := w.queue(channel, "", amqp.Table{
		"x-dead-letter-exchange": "", "x-dead-letter-routing-key": dead})
	publish(channel, "", queue, amqp.Publishing{Expiration: "50", Body: []byte("short")})
	message := get(channel, dead, true)
	death := message.Headers["x-death"].([]any)[0].(amqp.Table)
	must(death["reason"] == "expired" && death["original-expiration"] == "50", "%v", death)
	must(message.Expiration == "", "it would expire again")
}

func delay(w *world) {
	if kind == "rabbitmq" {
		panic(skip("this RabbitMQ has no delayed-message plugin"))
	}
	channel := w.channel()
	exchange := prefix + w.name
	check(channel.ExchangeDeclare(exchange, "x-delayed-message", false, false, false, false,
		amqp.Table{"x-delayed-type": "direct"}))
	queue := w.queue(channel, "", nil)
	check(channel.QueueBind(queue, "k", exchange, false, nil))
	started := time.Now()
	publish(channel, exchange, "k", amqp.Publishing{Headers: amqp.Table{"x-delay": int32(300)}, Body: []byte("late")})
	publish(channel, exchange, "k", text("now"))
	must(string(get(channel, queue, true).Body) == "now", "first what is not delayed")
	must(string(get(channel, queue, true).Body) == "late", "then the other")
	must(time.Since(started) >= 300*time.Millisecond, "too early")
}

func recovered(w *world) {
	channel := w.channel()
	queue := w.queue(channel, "", nil)
	publish(channel, "", queue, text("again"))
	deliveries := consume(channel, queue, false)
	must(!next(deliveries).Redelivered, "the first time")
	check(channel.Recover(true))
	must(next(deliveries).Redelivered, "the second time")
}

func exchanges(w *world) {
	channel := w.channel()
	base := prefix + w.name
	bind := func(kind, pattern string, arguments amqp.Table) string {
		check(channel.ExchangeDeclare(base+kind, kind, false, false, false, false, nil))
		queue := w.queue(channel, "."+kind, nil)
		check(channel.QueueBind(queue, pattern, base+kind, false, arguments))
		return queue
	}
	queues := []string{
		bind("direct", "k", nil), bind("topic", "a.*.#", nil), bind("fanout", "", nil),
		bind("headers", "", amqp.Table{"x-match": "all", "n": int32(1), "s": "x"}),
	}
	publish(channel, base+"direct", "k", text("m"))
	publish(channel, base+"direct", "other", text("m"))
	publish(channel, base+"topic", "a.b.c.d", text("m"))
	publish(channel, base+"topic", "b.a", text("m"))
	publish(channel, base+"fanout", "whatever", text("m"))
	publish(channel, base+"headers", "", amqp.Publishing{Headers: amqp.Table{"n": int64(1), "s": "x"}})
	publish(channel, base+"headers", "", amqp.Publishing{Headers: amqp.Table{"n": int32(1)}})
	for _, queue := range queues {
		arrived(channel, queue, 1)
	}
}

var scenarios = []struct {
	name string
	run  func(*world)
}{
	{"publish_get", publishGet}, {"confirm", confirm}, {"consume", consumeMany}, {"cancel", cancel},
	{"prefetch", prefetch}, {"nack_requeue", nackRequeue}, {"reject_dead_letter", rejectDeadLetter},
	{"mandatory_return", mandatoryReturn}, {"transactions", transactions}, {"reconnect", reconnect},
	{"large_message", largeMessage}, {"many_channels", manyChannels}, {"properties", properties},
	{"exclusive_queue", exclusiveQueue}, {"errors", errorCodes}, {"consumer_cancel", consumerCancel},
	{"heartbeats", heartbeats}, {"direct_reply_to", directReplyTo}, {"priority", priority},
	{"ttl", ttl}, {"delay", delay}, {"recover", recovered}, {"exchanges", exchanges},
}

func run(name string, scenario func(*world)) (result map[string]any) {
	w := &world{name: name}
	result = map[string]any{"scenario": name, "ok": true}
	defer func() {
		switch reason := recover().(type) {
		case nil:
		case skip:
			result["skip"] = string(reason)
		default:
			result["ok"] = false
			result["error"] = fmt.Sprint(reason)
		}
		for _, connection := range w.connections {
			connection.Close()
		}
	}()
	scenario(w)
	return result
}

func main() {
	host, port, proxyPort, controlPort, prefix, kind =
		os.Args[1], os.Args[2], os.Args[3], os.Args[4], os.Args[5], os.Args[6]
	for _, scenario := range scenarios {
		line, err := json.Marshal(run(scenario.name, scenario.run))
		check(err)
		fmt.Println(string(line))
	}
}
