import java.util.HashMap;
import java.util.LinkedHashMap;
import java.util.Map;
import java.util.Set;
import org.apache.kafka.common.config.ConfigData;
import org.apache.kafka.common.config.ConfigTransformer;
import org.apache.kafka.common.config.provider.ConfigProvider;

/**
 * How long Kafka's ConfigTransformer takes in a warm JVM: the inputs of t/bench/format-bench.c, the same
 * names, a JSON line each ({"name", "ns"}: nanoseconds for one transform, the best of several rounds).
 */
final class TransformBench {
    private static final int ROUNDS = 9;
    private static final long WARM_UP_NS = 2_000_000_000L, ROUND_NS = 200_000_000L;

    /** What consumes results, so that they are not optimised away. */
    private static long sink;

    private static final class Fixed implements ConfigProvider {
        private final Map<String, String> values = new HashMap<>();

        @Override
        public ConfigData get(String path) {
            return new ConfigData(values);
        }

        @Override
        public ConfigData get(String path, Set<String> keys) {
            return new ConfigData(values);
        }

        @Override
        public void configure(Map<String, ?> configs) {
        }

        @Override
        public void close() {
        }
    }

    private static long run(ConfigTransformer transformer, Map<String, String> config, long untilNs) {
        long n = 0, start = System.nanoTime(), now;

        do {
            for (int i = 0; i < 10; i++)
                sink += transformer.transform(config).data().size();
            n += 10;
            now = System.nanoTime();
        } while (now - start < untilNs);
        return (now - start) / n;
    }

    private static void measure(String name, Map<String, String> config, Fixed provider) {
        ConfigTransformer transformer = new ConfigTransformer(Map.of("file", provider));
        long best = Long.MAX_VALUE;

        run(transformer, config, WARM_UP_NS);
        for (int i = 0; i < ROUNDS; i++)
            best = Math.min(best, run(transformer, config, ROUND_NS));
        System.out.println("{\"name\":\"" + name + "\",\"ns\":" + best + "}");
    }

    public static void main(String[] args) {
        Fixed provider = new Fixed();
        Map<String, String> config = new LinkedHashMap<>();
        StringBuilder many = new StringBuilder();

        for (int i = 0; i < 1000; i++)
            provider.values.put("key" + i, "the-value-of-secret-" + i);
        for (int i = 0; i < 25; i++)
            config.put("some.property.name." + i, "an ordinary value of number " + i);
        for (int i = 0; i < 5; i++)
            config.put("some.secret." + i, "${file:/run/secrets/orders.properties:key" + i + "}");
        measure("30 keys, 5 references", config, provider);

        for (int i = 0; i < 1000; i++)
            many.append("${file:/run/secrets/orders.properties:key").append(i).append("} ");
        measure("1 value, 1000 references", Map.of("value", many.toString()), provider);
        if (sink == 0)
            throw new IllegalStateException();
    }
}
