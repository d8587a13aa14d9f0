using System;
using System.IO;
using System.Text;
using System.Text.RegularExpressions;

namespace Hello
{
    /// <summary>Answers with a greeting.</summary>
    public class Function
    {
        public Stream Handle(Stream input)
        {
            string text = new StreamReader(input, Encoding.UTF8).ReadToEnd();
            Match match = Regex.Match(text, "\"name\"\\s*:\\s*\"([^\"\\\\]*)\"");
            string name = match.Success ? match.Groups[1].Value : "world";
            Console.WriteLine("greeting " + name);
            return new MemoryStream(Encoding.UTF8.GetBytes("{\"message\": \"Hello, " + name + "!\"}"));
        }
    }
}
