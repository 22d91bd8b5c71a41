import java.io.*;
import java.nio.charset.StandardCharsets;
import java.nio.file.*;
import java.util.*;

/** LoadProperties FILE stream|reader|bytes: what java.util.Properties makes of it, "key=value" in hex of UTF-16, sorted. */
public class LoadProperties {
    static String hex(String s) {
        StringBuilder b = new StringBuilder();
        for (char c : s.toCharArray()) b.append(String.format("%04x", (int) c));
        return b.toString();
    }

    public static void main(String[] args) throws IOException {
        Properties p = new Properties();
        for (int i = 1; i < args.length; i++) {
            p.clear();
            Path path = Paths.get(args[0]);
            if (args[i].equals("stream")) {
                try (InputStream in = Files.newInputStream(path)) { p.load(in); }
            } else if (args[i].equals("reader")) {
                try (Reader in = Files.newBufferedReader(path, StandardCharsets.UTF_8)) { p.load(in); }
            } else {
                System.out.println("bytes " + Files.readAllBytes(path).length + " " + new File(args[0]).length());
                continue;
            }
            System.out.println(args[i]);
            for (String k : new TreeSet<>(p.stringPropertyNames())) System.out.println(hex(k) + "=" + hex(p.getProperty(k)));
        }
    }
}
