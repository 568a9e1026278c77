import com.rabbitmq.client.AMQP;
import com.rabbitmq.client.AlreadyClosedException;
import com.rabbitmq.client.CancelCallback;
import com.rabbitmq.client.Channel;
import com.rabbitmq.client.Connection;
import com.rabbitmq.client.ConnectionFactory;
import com.rabbitmq.client.Delivery;
import com.rabbitmq.client.GetResponse;
import com.rabbitmq.client.LongString;
import com.rabbitmq.client.Method;
import com.rabbitmq.client.ShutdownSignalException;
import java.math.BigDecimal;
import java.net.Socket;
import java.nio.charset.StandardCharsets;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.Collections;
import java.util.Date;
import java.util.HashMap;
import java.util.HashSet;
import java.util.List;
import java.util.Map;
import java.util.Objects;
import java.util.Set;
import java.util.concurrent.BlockingQueue;
import java.util.concurrent.LinkedBlockingQueue;
import java.util.concurrent.TimeUnit;

/**
 * Every scenario of ../scenarios.py through RabbitMQ's Java client. Prints one line of JSON for each.
 *
 * <p>Usage: Scenarios HOST PORT PROXY_PORT CONTROL_PORT PREFIX KIND
 */
public final class Scenarios {
  private static final long WAIT_SECONDS = 10;

  private static String host;
  private static int port;
  private static int proxyPort;
  private static int controlPort;
  private static String prefix;
  private static String kind;

  private final String name;
  private final List<Connection> connections = new ArrayList<>();

  private Scenarios(String name) {
    this.name = name;
  }

  private interface Scenario {
    void run(Scenarios world) throws Exception;
  }

  private static final class Skip extends RuntimeException {
    Skip(String reason) {
      super(reason);
    }
  }

  private Connection connect(int port, int heartbeat, boolean recover) throws Exception {
    ConnectionFactory factory = new ConnectionFactory();
    factory.setHost(host);
    factory.setPort(port);
    factory.setRequestedHeartbeat(heartbeat);
    factory.setAutomaticRecoveryEnabled(recover);
    factory.setNetworkRecoveryInterval(100);
    Connection connection = factory.newConnection();
    connections.add(connection);
    return connection;
  }

  private Connection connect() throws Exception {
    return connect(port, 30, false);
  }

  private String queue(Channel channel, String suffix, Map<String, Object> arguments)
      throws Exception {
    String queue = prefix + name + suffix;
    channel.queueDeclare(queue, false, false, false, arguments);
    return queue;
  }

  private static void must(boolean truth, Object shown) {
    if (!truth) {
      throw new AssertionError(String.valueOf(shown));
    }
  }

  private static byte[] bytes(String text) {
    return text.getBytes(StandardCharsets.UTF_8);
  }

  private static String text(byte[] body) {
    return new String(body, StandardCharsets.UTF_8);
  }

  private static void publish(Channel channel, String queue, String body) throws Exception {
    channel.basicPublish("", queue, null, bytes(body));
  }

  private static GetResponse get(Channel channel, String queue, boolean noAck) throws Exception {
    long deadline = System.nanoTime() + TimeUnit.SECONDS.toNanos(WAIT_SECONDS);
    while (System.nanoTime() < deadline) {
      GetResponse message = channel.basicGet(queue, noAck);
      if (message != null) {
        return message;
      }
    }
    throw new AssertionError("nothing in " + queue);
  }

  private static void arrived(Channel channel, String queue, int count) throws Exception {
    long deadline = System.nanoTime() + TimeUnit.SECONDS.toNanos(WAIT_SECONDS);
    while (System.nanoTime() < deadline) {
      if (channel.queueDeclarePassive(queue).getMessageCount() == count) {
        return;
      }
    }
    throw new AssertionError(queue + " does not hold " + count);
  }

  private static BlockingQueue<Delivery> consume(Channel channel, String queue, boolean noAck)
      throws Exception {
    BlockingQueue<Delivery> deliveries = new LinkedBlockingQueue<>();
    CancelCallback ignored = tag -> {};
    channel.basicConsume(queue, noAck, "c-" + queue, (tag, one) -> deliveries.add(one), ignored);
    return deliveries;
  }

  private static Delivery next(BlockingQueue<Delivery> deliveries) throws Exception {
    Delivery delivery = deliveries.poll(WAIT_SECONDS, TimeUnit.SECONDS);
    must(delivery != null, "no delivery");
    return delivery;
  }

  private interface Operation {
    void run(Channel channel) throws Exception;
  }

  private static int code(Channel channel, Operation operation) throws Exception {
    try {
      operation.run(channel);
      return 0;
    } catch (java.io.IOException | AlreadyClosedException error) {
      Throwable cause = error instanceof AlreadyClosedException ? error : error.getCause();
      Method reason = ((ShutdownSignalException) cause).getReason();
      if (reason instanceof AMQP.Channel.Close close) {
        return close.getReplyCode();
      }
      return ((AMQP.Connection.Close) reason).getReplyCode();
    }
  }

  private void publishGet() throws Exception {
    Channel channel = connect().createChannel();
    String queue = queue(channel, "", null);
    must(channel.basicGet(queue, false) == null, "a new queue is empty");
    publish(channel, queue, "one");
    GetResponse message = get(channel, queue, false);
    must(text(message.getBody()).equals("one"), message);
    must(!message.getEnvelope().isRedeliver(), message.getEnvelope());
    channel.basicAck(message.getEnvelope().getDeliveryTag(), false);
  }

  private void confirm() throws Exception {
    Channel channel = connect().createChannel();
    String queue = queue(channel, "", null);
    channel.confirmSelect();
    for (int number = 0; number < 50; number++) {
      publish(channel, queue, String.valueOf(number));
    }
    must(channel.waitForConfirms(WAIT_SECONDS * 1000), "refused");
    arrived(channel, queue, 50);
  }

  private void consumeMany() throws Exception {
    Connection connection = connect();
    Channel publisher = connection.createChannel();
    Channel consumer = connection.createChannel();
    String queue = queue(publisher, "", null);
    BlockingQueue<Delivery> deliveries = consume(consumer, queue, false);
    for (int number = 0; number < 100; number++) {
      publish(publisher, queue, String.valueOf(number));
    }
    for (int number = 0; number < 100; number++) {
      must(text(next(deliveries).getBody()).equals(String.valueOf(number)), number);
    }
    consumer.basicAck(100, true);
    arrived(publisher, queue, 0);
  }

  private void cancel() throws Exception {
    Channel channel = connect().createChannel();
    String queue = queue(channel, "", null);
    BlockingQueue<Delivery> deliveries = consume(channel, queue, false);
    publish(channel, queue, "first");
    Delivery first = next(deliveries);
    channel.basicCancel("c-" + queue);
    publish(channel, queue, "second");
    channel.basicAck(first.getEnvelope().getDeliveryTag(), false);
    must(text(get(channel, queue, true).getBody()).equals("second"), "the second stays");
  }

  private void prefetch() throws Exception {
    Channel channel = connect().createChannel();
    String queue = queue(channel, "", null);
    for (int number = 0; number < 20; number++) {
      publish(channel, queue, String.valueOf(number));
    }
    arrived(channel, queue, 20);
    channel.basicQos(5);
    BlockingQueue<Delivery> deliveries = consume(channel, queue, false);
    for (int number = 0; number < 5; number++) {
      next(deliveries);
    }
    arrived(channel, queue, 15);
    channel.basicAck(5, true);
    for (int number = 5; number < 10; number++) {
      must(text(next(deliveries).getBody()).equals(String.valueOf(number)), number);
    }
    arrived(channel, queue, 10);
  }

  private void nackRequeue() throws Exception {
    Channel channel = connect().createChannel();
    String queue = queue(channel, "", null);
    for (String body : List.of("a", "b", "c")) {
      publish(channel, queue, body);
    }
    arrived(channel, queue, 3);
    for (int number = 0; number < 3; number++) {
      get(channel, queue, false);
    }
    channel.basicNack(2, true, true);
    for (String body : List.of("a", "b")) {
      GetResponse message = get(channel, queue, false);
      must(text(message.getBody()).equals(body) && message.getEnvelope().isRedeliver(), body);
    }
  }

  @SuppressWarnings("unchecked")
  private static Map<String, Object> death(AMQP.BasicProperties properties) {
    return ((List<Map<String, Object>>) properties.getHeaders().get("x-death")).get(0);
  }

  private void rejectDeadLetter() throws Exception {
    Channel channel = connect().createChannel();
    String dead = queue(channel, ".dead", null);
    String queue =
        queue(
            channel,
            "",
            Map.of("x-dead-letter-exchange", "", "x-dead-letter-routing-key", dead));
    AMQP.BasicProperties properties =
        new AMQP.BasicProperties.Builder().headers(Map.of("keep", "me")).build();
    channel.basicPublish("", queue, properties, bytes("m"));
    channel.basicReject(get(channel, queue, false).getEnvelope().getDeliveryTag(), false);
    GetResponse message = get(channel, dead, true);
    Map<String, Object> death = death(message.getProps());
    must(death.get("queue").toString().equals(queue), death);
    must(death.get("reason").toString().equals("rejected"), death);
    must(Objects.equals(death.get("count"), 1L), death);
    must(message.getProps().getHeaders().get("keep").toString().equals("me"), message.getProps());
  }

  private void mandatoryReturn() throws Exception {
    Channel channel = connect().createChannel();
    BlockingQueue<Integer> returned = new LinkedBlockingQueue<>();
    channel.addReturnListener(one -> returned.add(one.getReplyCode()));
    channel.basicPublish("", prefix + "nobody", true, null, bytes("back"));
    must(Objects.equals(returned.poll(WAIT_SECONDS, TimeUnit.SECONDS), 312), "nothing returned");
  }

  private void transactions() throws Exception {
    Connection connection = connect();
    Channel channel = connection.createChannel();
    Channel other = connection.createChannel();
    String queue = queue(channel, "", null);
    channel.txSelect();
    publish(channel, queue, "rolled back");
    channel.txRollback();
    publish(channel, queue, "committed");
    must(other.basicGet(queue, true) == null, "nothing before the commit");
    channel.txCommit();
    must(text(get(other, queue, true).getBody()).equals("committed"), "after the commit");
  }

  /** With the client's own recovery of connections, channels and consumers. */
  private void reconnect() throws Exception {
    Channel setup = connect().createChannel();
    String queue = queue(setup, "", null);
    publish(setup, queue, "1");
    publish(setup, queue, "2");
    arrived(setup, queue, 2);
    Channel channel = connect(proxyPort, 30, true).createChannel();
    channel.basicQos(1);
    BlockingQueue<Delivery> deliveries = consume(channel, queue, false);
    must(text(next(deliveries).getBody()).equals("1"), "the first");
    new Socket(host, controlPort).close();
    Delivery again = next(deliveries);
    must(text(again.getBody()).equals("1") && again.getEnvelope().isRedeliver(), "again");
    channel.basicAck(again.getEnvelope().getDeliveryTag(), false);
    must(text(next(deliveries).getBody()).equals("2"), "then the second");
  }

  private void largeMessage() throws Exception {
    Channel channel = connect().createChannel();
    String queue = queue(channel, "", null);
    byte[] body = new byte[8 << 20];
    for (int at = 0; at < body.length; at++) {
      body[at] = (byte) (at * 31);
    }
    channel.basicPublish("", queue, null, body);
    must(Arrays.equals(get(channel, queue, true).getBody(), body), "8 MiB came back otherwise");
  }

  private void manyChannels() throws Exception {
    Connection connection = connect();
    List<Channel> channels = new ArrayList<>();
    for (int number = 0; number < 200; number++) {
      channels.add(connection.createChannel());
    }
    String queue = queue(channels.get(0), "", null);
    for (int number = 0; number < 200; number++) {
      publish(channels.get(number), queue, String.valueOf(number));
    }
    arrived(channels.get(0), queue, 200);
    Set<String> seen = new HashSet<>();
    for (Channel channel : channels) {
      seen.add(text(get(channel, queue, true).getBody()));
    }
    must(seen.size() == 200, seen.size());
  }

  private static Object plain(Object value) {
    if (value instanceof LongString) {
      return value.toString();
    }
    if (value instanceof byte[] array) {
      return Arrays.toString(array);
    }
    if (value instanceof List<?> list) {
      return list.stream().map(Scenarios::plain).toList();
    }
    if (value instanceof Map<?, ?> map) {
      Map<Object, Object> result = new HashMap<>();
      map.forEach((key, item) -> result.put(key, plain(item)));
      return result;
    }
    return value;
  }

  private void properties() throws Exception {
    Channel channel = connect().createChannel();
    String queue = queue(channel, "", null);
    Date stamp = new Date(1767323045000L);
    Map<String, Object> headers = new HashMap<>();
    headers.put("text", "grüße");
    headers.put("empty", "");
    headers.put("true", true);
    headers.put("byte", (byte) -7);
    headers.put("short", (short) -700);
    headers.put("int", -70000);
    headers.put("long", 1L << 40);
    headers.put("float", 0.5f);
    headers.put("double", 0.25);
    headers.put("decimal", new BigDecimal("3.14"));
    headers.put("bytes", new byte[] {0, -1});
    headers.put("none", null);
    headers.put("time", stamp);
    headers.put("list", Arrays.asList(1, "two", List.of(true)));
    headers.put("table", Map.of("inner", Map.of("deep", "yes")));
    AMQP.BasicProperties sent =
        new AMQP.BasicProperties.Builder()
            .contentType("text/plain")
            .contentEncoding("utf-8")
            .deliveryMode(2)
            .priority(7)
            .correlationId("correlation")
            .replyTo("reply")
            .expiration("60000")
            .messageId("id")
            .timestamp(stamp)
            .type("kind")
            .userId("guest")
            .appId("application")
            .clusterId("cluster")
            .headers(headers)
            .build();
    channel.basicPublish("", queue, sent, bytes("body"));
    AMQP.BasicProperties got = get(channel, queue, true).getProps();
    must(plain(got.getHeaders()).equals(plain(headers)), plain(got.getHeaders()));
    must(
        got.builder().headers(null).build().equals(sent.builder().headers(null).build()), got);
  }

  private void exclusiveQueue() throws Exception {
    Channel owner = connect().createChannel();
    Channel stranger = connect().createChannel();
    String queue = owner.queueDeclare().getQueue();
    must(queue.startsWith("amq.gen-"), queue);
    must(code(stranger, one -> one.queueDeclarePassive(queue)) == 405, "405 expected");
  }

  private void errors() throws Exception {
    Connection connection = connect();
    String queue = queue(connection.createChannel(), "", Map.of("x-max-priority", 10));
    String absent = prefix + "absent";
    must(code(connection.createChannel(), one -> one.queueDeclarePassive(absent)) == 404, "404");
    must(
        code(connection.createChannel(), one -> one.queueDeclare(queue, false, false, false, null))
            == 406,
        "406");
    must(
        code(connection.createChannel(), one -> one.exchangeDeclare("amq.mine", "direct")) == 403,
        "403");
    must(code(connection.createChannel(), one -> one.basicGet(absent, true)) == 404, "404");
    connection.createChannel();
  }

  private void consumerCancel() throws Exception {
    Connection connection = connect();
    Channel channel = connection.createChannel();
    String queue = queue(channel, "", null);
    BlockingQueue<String> cancelled = new LinkedBlockingQueue<>();
    channel.basicConsume(queue, false, "c", (tag, one) -> {}, (CancelCallback) cancelled::add);
    connection.createChannel().queueDelete(queue);
    must("c".equals(cancelled.poll(WAIT_SECONDS, TimeUnit.SECONDS)), "not cancelled");
  }

  private void heartbeats() throws Exception {
    Connection connection = connect(port, 1, false);
    BlockingQueue<String> closed = new LinkedBlockingQueue<>();
    connection.addShutdownListener(cause -> closed.add(cause.toString()));
    must(closed.poll(3500, TimeUnit.MILLISECONDS) == null, "closed");
    connection.createChannel();
  }

  private void directReplyTo() throws Exception {
    Connection connection = connect();
    Channel asking = connection.createChannel();
    Channel answering = connection.createChannel();
    String queue = queue(answering, "", null);
    BlockingQueue<Delivery> replies = consume(asking, "amq.rabbitmq.reply-to", true);
    AMQP.BasicProperties properties =
        new AMQP.BasicProperties.Builder().replyTo("amq.rabbitmq.reply-to").build();
    asking.basicPublish("", queue, properties, bytes("abc"));
    GetResponse request = get(answering, queue, true);
    publish(answering, request.getProps().getReplyTo(), "cba");
    must(text(next(replies).getBody()).equals("cba"), "the answer");
  }

  private void priority() throws Exception {
    Channel channel = connect().createChannel();
    String queue = queue(channel, "", Map.of("x-max-priority", 5));
    for (int level : new int[] {1, 5, 0, 3, 5}) {
      AMQP.BasicProperties properties = new AMQP.BasicProperties.Builder().priority(level).build();
      channel.basicPublish("", queue, properties, bytes(String.valueOf(level)));
    }
    arrived(channel, queue, 5);
    StringBuilder order = new StringBuilder();
    for (int number = 0; number < 5; number++) {
      order.append(text(get(channel, queue, true).getBody()));
    }
    must(order.toString().equals("55310"), order);
  }

  private void ttl() throws Exception {
    Channel channel = connect().createChannel();
    String dead = queue(channel, ".dead", null);
    String queue =
        queue(
            channel,
            "",
            Map.of("x-dead-letter-exchange", "", "x-dead-letter-routing-key", dead));
    AMQP.BasicProperties properties = new AMQP.BasicProperties.Builder().expiration("50").build();
    channel.basicPublish("", queue, properties, bytes("short"));
    AMQP.BasicProperties got = get(channel, dead, true).getProps();
    must(got.getExpiration() == null, got);
    must(death(got).get("reason").toString().equals("expired"), got);
    must(death(got).get("original-expiration").toString().equals("50"), got);
  }

  private void delay() throws Exception {
    if (kind.equals("rabbitmq")) {
      throw new Skip("this RabbitMQ has no delayed-message plugin");
    }
    Channel channel = connect().createChannel();
    String exchange = prefix + name;
    channel.exchangeDeclare(
        exchange, "x-delayed-message", false, false, Map.of("x-delayed-type", "direct"));
    String queue = queue(channel, "", null);
    channel.queueBind(queue, exchange, "k");
    long started = System.nanoTime();
    AMQP.BasicProperties late =
        new AMQP.BasicProperties.Builder().headers(Map.of("x-delay", 300)).build();
    channel.basicPublish(exchange, "k", late, bytes("late"));
    channel.basicPublish(exchange, "k", null, bytes("now"));
    must(text(get(channel, queue, true).getBody()).equals("now"), "first the other");
    must(text(get(channel, queue, true).getBody()).equals("late"), "then the delayed");
    must(System.nanoTime() - started >= 300_000_000L, "too early");
  }

  private void recover() throws Exception {
    Channel channel = connect().createChannel();
    String queue = queue(channel, "", null);
    publish(channel, queue, "again");
    BlockingQueue<Delivery> deliveries = consume(channel, queue, false);
    must(!next(deliveries).getEnvelope().isRedeliver(), "the first time");
    channel.basicRecover(true);
    must(next(deliveries).getEnvelope().isRedeliver(), "the second time");
  }

  private void exchanges() throws Exception {
    Channel channel = connect().createChannel();
    String base = prefix + name;
    Map<String, String> patterns =
        Map.of("direct", "k", "topic", "a.*.#", "fanout", "", "headers", "");
    for (Map.Entry<String, String> one : patterns.entrySet()) {
      channel.exchangeDeclare(base + one.getKey(), one.getKey());
      String queue = queue(channel, "." + one.getKey(), null);
      Map<String, Object> arguments =
          one.getKey().equals("headers")
              ? Map.of("x-match", "all", "n", 1, "s", "x")
              : Collections.emptyMap();
      channel.queueBind(queue, base + one.getKey(), one.getValue(), arguments);
    }
    channel.basicPublish(base + "direct", "k", null, bytes("m"));
    channel.basicPublish(base + "direct", "other", null, bytes("m"));
    channel.basicPublish(base + "topic", "a.b.c.d", null, bytes("m"));
    channel.basicPublish(base + "topic", "b.a", null, bytes("m"));
    channel.basicPublish(base + "fanout", "whatever", null, bytes("m"));
    for (Map<String, Object> headers :
        List.of(Map.<String, Object>of("n", 1L, "s", "x"), Map.<String, Object>of("n", 1))) {
      AMQP.BasicProperties properties = new AMQP.BasicProperties.Builder().headers(headers).build();
      channel.basicPublish(base + "headers", "", properties, bytes("m"));
    }
    for (String one : patterns.keySet()) {
      arrived(channel, prefix + name + "." + one, 1);
    }
  }

  private static String quoted(String text) {
    StringBuilder out = new StringBuilder("\"");
    for (char one : String.valueOf(text).toCharArray()) {
      if (one == '"' || one == '\\') {
        out.append('\\').append(one);
      } else if (one < ' ' || one > '~') {
        out.append(String.format("\\u%04x", (int) one));
      } else {
        out.append(one);
      }
    }
    return out.append('"').toString();
  }

  private static void report(String name, Scenario scenario) {
    Scenarios world = new Scenarios(name);
    String result = "\"ok\": true";
    try {
      scenario.run(world);
    } catch (Skip reason) {
      result += ", \"skip\": " + quoted(reason.getMessage());
    } catch (Throwable error) {
      result = "\"ok\": false, \"error\": " + quoted(error + " at " + error.getStackTrace()[0]);
    }
    for (Connection connection : world.connections) {
      connection.abort(1000);
    }
    System.out.println("{\"scenario\": " + quoted(name) + ", " + result + "}");
  }

  public static void main(String[] arguments) {
    host = arguments[0];
    port = Integer.parseInt(arguments[1]);
    proxyPort = Integer.parseInt(arguments[2]);
    controlPort = Integer.parseInt(arguments[3]);
    prefix = arguments[4];
    kind = arguments[5];
    report("publish_get", Scenarios::publishGet);
    report("confirm", Scenarios::confirm);
    report("consume", Scenarios::consumeMany);
    report("cancel", Scenarios::cancel);
    report("prefetch", Scenarios::prefetch);
    report("nack_requeue", Scenarios::nackRequeue);
    report("reject_dead_letter", Scenarios::rejectDeadLetter);
    report("mandatory_return", Scenarios::mandatoryReturn);
    report("transactions", Scenarios::transactions);
    report("reconnect", Scenarios::reconnect);
    report("large_message", Scenarios::largeMessage);
    report("many_channels", Scenarios::manyChannels);
    report("properties", Scenarios::properties);
    report("exclusive_queue", Scenarios::exclusiveQueue);
    report("errors", Scenarios::errors);
    report("consumer_cancel", Scenarios::consumerCancel);
    report("heartbeats", Scenarios::heartbeats);
    report("direct_reply_to", Scenarios::directReplyTo);
    report("priority", Scenarios::priority);
    report("ttl", Scenarios::ttl);
    report("delay", Scenarios::delay);
    report("recover", Scenarios::recover);
    report("exchanges", Scenarios::exchanges);
    System.exit(0);
  }
}
