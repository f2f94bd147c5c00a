import java.io.IOException;
import java.net.URI;
import java.net.http.HttpClient;
import java.net.http.HttpRequest;
import java.net.http.HttpRequest.BodyPublishers;
import java.net.http.HttpResponse;
import java.net.http.HttpResponse.BodyHandlers;
import java.nio.charset.StandardCharsets;
import java.time.Duration;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.HashMap;
import java.util.List;
import java.util.Map;
import java.util.concurrent.atomic.AtomicLong;

/** A client of the zoo, with the interface that main.go describes: the JDK's HttpClient, which asks for HTTP/2 by an Upgrade. */
public class Client {
    private static final int MAX_BODY = 200;

    private final Map<String, String> given = new HashMap<>();
    private final String[] orders;
    private final byte[] body;
    private final HttpClient client = HttpClient.newBuilder().version(HttpClient.Version.HTTP_2).build();
    private volatile boolean over;

    private Client(String[] args) {
        for (String a : args) {
            int at = a.indexOf('=');
            given.put(a.substring(0, at), a.substring(at + 1));
        }
        orders = given.getOrDefault("do", "size=0").split("\\+");
        body = new byte[number("body", 0)];
        Arrays.fill(body, (byte) 'a');
    }

    private int number(String key, int otherwise) {
        return Integer.parseInt(given.getOrDefault(key, Integer.toString(otherwise)));
    }

    private static int numberOf(String order, String key) {
        for (String part : order.split(",")) {
            if (part.startsWith(key + "=")) return Integer.parseInt(part.substring(key.length() + 1));
        }
        return 0;
    }

    private String one(String order) throws InterruptedException {
        String method = given.getOrDefault("method", body.length > 0 ? "POST" : "GET");
        HttpRequest.Builder request = HttpRequest.newBuilder(URI.create("http://" + given.get("address") + "/" + order))
            .method(method, body.length > 0 ? BodyPublishers.ofByteArray(body) : BodyPublishers.noBody());
        int limit = Math.max(numberOf(order, "deadline"), numberOf(order, "cancel"));
        if (limit > 0) request.timeout(Duration.ofMillis(limit));
        try {
            HttpResponse<byte[]> response = client.send(request.build(), BodyHandlers.ofByteArray());
            byte[] got = response.body();
            String shown = new String(got, 0, Math.min(got.length, MAX_BODY), StandardCharsets.ISO_8859_1);
            return String.format("\"status\":%d,\"reason\":%s,\"size\":%d,\"body\":%s", response.statusCode(),
                quoted(response.headers().firstValue("x-cbagent-reason").orElse("")), got.length, quoted(shown));
        } catch (IOException e) {
            return "\"error\":" + quoted(e.toString());
        }
    }

    private static String quoted(String text) {
        StringBuilder b = new StringBuilder("\"");
        for (char c : text.toCharArray()) {
            if (c == '"' || c == '\\') b.append('\\').append(c);
            else if (c < ' ') b.append(String.format("\\u%04x", (int) c));
            else b.append(c);
        }
        return b.append('"').toString();
    }

    private void work(AtomicLong next, long calls) {
        try {
            for (long n; !over && ((n = next.getAndIncrement()) < calls || calls == 0); Thread.sleep(number("pause", 0))) {
                String order = orders[(int) (n % orders.length)];
                long at = System.currentTimeMillis();
                long began = System.nanoTime();
                String call = one(order);
                String line = String.format("{\"at\":%d,\"us\":%d,\"do\":%s,\"code\":-1,%s}", at * 1_000_000,
                    (System.nanoTime() - began) / 1000, quoted(order), call);
                synchronized (System.out) {
                    System.out.println(line);
                    System.out.flush();
                }
            }
        } catch (InterruptedException e) {
            Thread.currentThread().interrupt();
        }
    }

    private void run() throws InterruptedException {
        long calls = number("calls", 0);
        if (calls == 0) {
            Thread end = new Thread(() -> {
                try {
                    while (System.in.read() >= 0) { }
                } catch (IOException e) {
                    // That is an end, too.
                }
                over = true;
            });
            end.setDaemon(true);
            end.start();
        }
        AtomicLong next = new AtomicLong();
        List<Thread> workers = new ArrayList<>();
        for (int i = 0; i < number("at-once", 1); i++) {
            Thread worker = new Thread(() -> work(next, calls));
            workers.add(worker);
            worker.start();
        }
        for (Thread worker : workers) worker.join();
    }

    public static void main(String[] args) throws InterruptedException {
        new Client(args).run();
        System.exit(0);
    }
}
