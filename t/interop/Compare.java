import com.fasterxml.jackson.core.JsonParser;
import com.fasterxml.jackson.core.exc.StreamReadException;
import com.fasterxml.jackson.core.type.TypeReference;
import com.fasterxml.jackson.databind.DatabindException;
import com.fasterxml.jackson.databind.DeserializationFeature;
import com.fasterxml.jackson.databind.JsonMappingException;
import com.fasterxml.jackson.databind.JsonNode;
import com.fasterxml.jackson.databind.ObjectMapper;
import java.io.BufferedReader;
import java.io.ByteArrayInputStream;
import java.io.IOException;
import java.io.InputStreamReader;
import java.io.PrintStream;
import java.nio.ByteBuffer;
import java.nio.charset.CharacterCodingException;
import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.HashMap;
import java.util.HashSet;
import java.util.Iterator;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import java.util.Properties;
import java.util.Set;
import java.util.TreeSet;
import org.apache.kafka.common.config.ConfigData;
import org.apache.kafka.common.config.ConfigTransformer;
import org.apache.kafka.common.config.provider.ConfigProvider;
import org.apache.kafka.connect.runtime.rest.entities.CreateConnectorRequest;

/**
 * Kafka's side of the comparison: answers the records that vectors.c describes, by the classes of
 * kafka-clients, connect-runtime, Jackson and java.util. Two things are different here:
 *
 * R has one word more, the rendered bytes that vectors.c answered (or "err"), and is answered
 * "same" where the stored text, loaded and transformed, is the map that the rendered one loads to.
 *
 * Answers of J and V may end with " | " and the reasons for which ours may be another one.
 */
final class Compare {
    private final String[] words;
    private int next;

    private Compare(String line) {
        words = line.split(" ", -1);
    }

    public static void main(String[] args) throws Exception {
        BufferedReader in = new BufferedReader(new InputStreamReader(System.in, StandardCharsets.US_ASCII));
        PrintStream out = new PrintStream(System.out, false, StandardCharsets.US_ASCII);
        boolean interactive = args.length > 0 && args[0].equals("-i");
        StringBuilder pending = new StringBuilder();

        for (String line = in.readLine(); line != null; line = in.readLine()) {
            pending.append(new Compare(line).answer()).append('\n');
            if (interactive || pending.length() > 1 << 16) {
                out.print(pending);
                out.flush();
                pending.setLength(0);
            }
        }
        out.print(pending);
        out.flush();
    }

    private String answer() throws Exception {
        String id = word();

        switch (word()) {
            case "T": return id + " " + transform();
            case "P": return id + " " + properties();
            case "R": return id + " " + rendering();
            case "J": return id + " " + json();
            case "V": return id + " " + provider();
            default: throw new IllegalArgumentException("unknown kind of record");
        }
    }

    // Words

    private String word() {
        return words[next++];
    }

    private int number() {
        return Integer.parseInt(word());
    }

    private String text() {
        return textOf(word());
    }

    private static String textOf(String word) {
        if (word.equals("~"))
            return null;
        StringBuilder s = new StringBuilder();
        for (int i = 0; i + 4 <= word.length(); i += 4)
            s.append((char) Integer.parseInt(word.substring(i, i + 4), 16));
        return s.toString();
    }

    private byte[] bytes() {
        String word = word();
        byte[] b = new byte[word.length() / 2];

        for (int i = 0; i < b.length; i++)
            b[i] = (byte) Integer.parseInt(word.substring(2 * i, 2 * i + 2), 16);
        return b;
    }

    private static String digits(String s) {
        if (s == null)
            return "~";
        if (s.isEmpty())
            return "-";
        StringBuilder out = new StringBuilder();
        for (int i = 0; i < s.length(); i++) {
            for (int shift = 12; shift >= 0; shift -= 4)
                out.append(Character.forDigit(s.charAt(i) >> shift & 0xf, 16));
        }
        return out.toString();
    }

    private static String lines(Iterable<String> sorted) {
        StringBuilder out = new StringBuilder();

        for (String s : sorted)
            out.append(s).append(';');
        return out.length() == 0 ? "-" : out.toString();
    }

    private static String map(Map<?, ?> map) {
        TreeSet<String> out = new TreeSet<>();

        map.forEach((k, v) -> out.add(digits((String) k) + "=" + digits((String) v)));
        return lines(out);
    }

    // Tables of what the fake providers hold: provider, path, key, value; the path "*" is any other

    private static final class Fake implements ConfigProvider {
        final String name;
        final Map<String, Map<String, String>> paths = new HashMap<>();
        Map<String, String> anyPath = new HashMap<>();
        Set<String> calls;

        Fake(String name, Set<String> calls) {
            this.name = name;
            this.calls = calls;
        }

        @Override
        public ConfigData get(String path) {
            throw new UnsupportedOperationException();
        }

        @Override
        public ConfigData get(String path, Set<String> keys) {
            Map<String, String> all = paths.getOrDefault(path, anyPath);
            Map<String, String> found = new HashMap<>();

            for (String key : keys) {
                calls.add(digits(name) + "," + digits(path) + "," + digits(key));
                if (all.containsKey(key))
                    found.put(key, all.get(key));
            }
            return new ConfigData(found);
        }

        @Override
        public void configure(Map<String, ?> configs) {
        }

        @Override
        public void close() {
        }
    }

    private Map<String, ConfigProvider> table(Set<String> calls) {
        Map<String, ConfigProvider> providers = new HashMap<>();

        for (int n = number(); n > 0; n--) {
            String name = text(), path = word(), key = text(), value = text();
            Fake fake = (Fake) providers.computeIfAbsent(name, k -> new Fake(k, calls));
            Map<String, String> values = path.equals("*") ? fake.anyPath
                    : fake.paths.computeIfAbsent(textOf(path), k -> new HashMap<>());
            if (key != null && !values.containsKey(key))
                values.put(key, value);
        }
        return providers;
    }

    private String transform() {
        Set<String> calls = new TreeSet<>();
        ConfigTransformer transformer = new ConfigTransformer(table(calls));
        Map<String, String> config = new LinkedHashMap<>();

        for (int n = number(); n > 0; n--) {
            String key = text();
            config.put(key, text());
        }
        String values = map(transformer.transform(config).data());
        return "calls " + lines(calls) + " values " + values;
    }

    // java.util.Properties, as FileConfigProvider reads it (Files.newBufferedReader) and as Utils.loadProps

    private static Properties utf8(byte[] text) {
        Properties p = new Properties();

        try (BufferedReader reader = new BufferedReader(new InputStreamReader(new ByteArrayInputStream(text),
                StandardCharsets.UTF_8.newDecoder()))) {
            p.load(reader);
            return p;
        } catch (IOException | IllegalArgumentException e) {
            return null;
        }
    }

    private static Properties latin1(byte[] text) {
        Properties p = new Properties();

        try {
            p.load(new ByteArrayInputStream(text));
            return p;
        } catch (IOException | IllegalArgumentException e) {
            return null;
        }
    }

    private static String mapOrError(Map<?, ?> map) {
        return map == null ? "err" : map(map);
    }

    private String properties() {
        byte[] text = bytes();

        return "utf8 " + mapOrError(utf8(text)) + " latin1 " + mapOrError(latin1(text));
    }

    private String rendering() {
        byte[] stored = bytes();
        ConfigTransformer transformer = new ConfigTransformer(table(new HashSet<>()));
        boolean failed = words[next].equals("err");
        byte[] rendered = failed ? null : bytes();
        Properties loaded = latin1(stored);

        if (loaded == null || failed)
            return loaded == null && failed ? "same" : loaded == null ? "should fail" : "should not fail";
        Map<String, String> config = new HashMap<>();
        loaded.forEach((k, v) -> config.put((String) k, (String) v));
        String expected = map(transformer.transform(config).data());
        String asLatin1 = mapOrError(latin1(rendered)), asUtf8 = mapOrError(utf8(rendered));
        if (!asLatin1.equals(expected))
            return "expected " + expected + " latin1 " + asLatin1;
        for (byte b : stored) {
            if (b < 0)
                return "same"; // what is copied from the stored text is read by its own charset
        }
        return asUtf8.equals(expected) ? "same" : "expected " + expected + " utf8 " + asUtf8;
    }

    // JSON, in the order of ConnectStandalone.parseConnectorConfigurationFile

    private static final ObjectMapper FLAT = new ObjectMapper();
    private static final ObjectMapper REQUEST =
            new ObjectMapper().configure(DeserializationFeature.FAIL_ON_UNKNOWN_PROPERTIES, false);
    private static final ObjectMapper STRICT = new ObjectMapper()
            .configure(DeserializationFeature.FAIL_ON_TRAILING_TOKENS, true)
            .configure(JsonParser.Feature.STRICT_DUPLICATE_DETECTION, true);

    private String json() throws IOException {
        byte[] text = bytes();

        try {
            Map<String, String> map = FLAT.readValue(text, new TypeReference<Map<String, String>>() { });
            return map == null ? "err" : "flat " + map(map) + stricter(text);
        } catch (StreamReadException | DatabindException e) {
            // next form
        } catch (IOException e) { // malformed UTF-8
            return "err";
        }
        try {
            CreateConnectorRequest r =
                    REQUEST.readValue(text, new TypeReference<CreateConnectorRequest>() { });
            if (r == null || r.config() == null)
                return "err"; // a NullPointerException there
            String name = digits(r.name() == null ? "" : r.name());
            return "request " + name + " " + map(r.config()) + stricter(text);
        } catch (JsonMappingException e) {
            return e.getPath().stream().anyMatch(p -> "initial_state".equals(p.getFieldName()))
                    ? "err | initial-state" : "err"; // a member that we keep and do not read
        } catch (StreamReadException e) {
            return "err";
        }
    }

    /** Reasons to refuse a text that Jackson takes, as " | a,b". */
    private static String stricter(byte[] text) {
        Set<String> reasons = new TreeSet<>();

        try {
            StandardCharsets.UTF_8.newDecoder().decode(ByteBuffer.wrap(text));
        } catch (CharacterCodingException e) {
            reasons.add("malformed-utf8");
        }
        for (byte b : text) {
            if (b == 0)
                reasons.add("nul"); // or UTF-16 or UTF-32, which Jackson guesses
        }
        try {
            look(STRICT.readTree(text), reasons);
        } catch (StreamReadException e) {
            reasons.add(e.getOriginalMessage().startsWith("Duplicate") ? "duplicate" : "trailing");
        } catch (IOException e) {
            reasons.add("trailing");
        }
        return reasons.isEmpty() ? "" : " | " + String.join(",", reasons);
    }

    private static void look(String s, Set<String> reasons) {
        for (int i = 0; i < s.length(); i++) {
            char c = s.charAt(i);
            if (c == 0)
                reasons.add("nul");
            else if (i + 1 < s.length() && Character.isSurrogatePair(c, s.charAt(i + 1)))
                i++;
            else if (Character.isSurrogate(c))
                reasons.add("unpaired-surrogate");
        }
    }

    private static void look(JsonNode node, Set<String> reasons) {
        if (node.isTextual())
            look(node.textValue(), reasons);
        if (node.isNumber() && Double.isInfinite(node.doubleValue()))
            reasons.add("number-too-large");
        for (Iterator<String> i = node.fieldNames(); i.hasNext();)
            look(i.next(), reasons);
        for (JsonNode child : node)
            look(child, reasons);
    }

    // Providers

    private String provider() throws Exception {
        String name = text();
        Map<String, String> params = new HashMap<>();
        Set<String> keys = new HashSet<>();

        for (int n = number(); n > 0; n--) {
            String param = text();
            params.put(param, text());
        }
        String path = text();
        for (int n = number(); n > 0; n--)
            keys.add(text());
        try (ConfigProvider p = (ConfigProvider) Class.forName(name).getConstructor().newInstance()) {
            try {
                p.configure(params);
            } catch (RuntimeException e) {
                return "err configure";
            }
            String answer;
            try {
                answer = map(p.get(path, keys).data());
            } catch (RuntimeException e) {
                answer = "err";
            }
            return answer + (judgedByRealPath(params.get("allowed.paths"), path, keys) ? " | real-path" : "");
        }
    }

    /** The real path; of what is not there, that of its deepest directory which is, and the rest. */
    private static Path nearestRealPath(Path path) throws IOException {
        for (Path dir = path; dir != null; dir = dir.getParent()) {
            if (Files.exists(dir))
                return dir.toRealPath().resolve(dir.relativize(path)).normalize();
        }
        return path.toRealPath();
    }

    /**
     * Do the real paths say something else than the names? Since KAFKA-20700, later than this Kafka, and
     * in our provider, the real ones count: a symlink can't lead out of the allowed paths.
     */
    private static boolean judgedByRealPath(String allowed, String path, Set<String> keys) {
        List<Path> targets = new ArrayList<>();

        if (allowed == null || allowed.isEmpty())
            return false;
        try {
            targets.add(Path.of(path).normalize());
        } catch (RuntimeException e) {
            return false;
        }
        for (String key : keys) {
            try {
                targets.add(targets.get(0).resolve(key));
            } catch (RuntimeException e) {
                // no file's name
            }
        }
        for (Path target : targets) {
            boolean byName = false, byRealPath = false;
            try {
                Path real = nearestRealPath(target);
                for (String entry : allowed.split(",")) {
                    byName |= target.startsWith(Path.of(entry).normalize());
                    byRealPath |= real.startsWith(Path.of(entry).normalize().toRealPath());
                }
            } catch (IOException | RuntimeException e) {
                continue; // not there
            }
            if (byName != byRealPath)
                return true;
        }
        return false;
    }
}
